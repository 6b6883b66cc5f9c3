"""The command `lambdanets`."""

import contextlib
import os
import sys

from lambdanets.cli import run
from lambdanets.waiting import has_given_up


def main() -> None:
    """Run the command line and leave with its exit code."""
    code = run(sys.argv[1:])
    if has_given_up():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        # What hangs would be waited for at the end of the program.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
