"""The command `lambdanets`."""

import contextlib
import os
import sys

from lambdanets.cli import run
from lambdanets.waiting import has_given_up


def main() -> None:
    """Run the command line and leave with its exit code."""
    _restart_where_needed()
    code = run(sys.argv[1:])
    if has_given_up():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        # What hangs would be waited for at the end of the program.
        os._exit(code)
    sys.exit(code)


def _restart_where_needed() -> None:
    """Begin anew where Python has no docstrings (-OO), which are the help, or cannot name every file.

    The latter is so in an old locale: names that a run has stored are letters, and are in UTF-8.
    """
    if sys.flags.optimize < 2 and sys.getfilesystemencoding() == "utf-8":
        return
    # Asked for here alone.
    import subprocess

    given = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    kept = [flag for flag in given if {*flag} != {"-", "O"}]
    plain = ["-O"] if sys.flags.optimize else []
    os.environ |= {"PYTHONUTF8": "1", "PYTHONOPTIMIZE": "1" if plain else ""}
    # Of two equal options the first one counts.
    words = [sys.executable, "-X", "utf8", *plain, *kept, "-m", "lambdanets", *sys.argv[1:]]
    os.execv(sys.executable, words)


if __name__ == "__main__":
    main()
