"""Commands in a forked process with the streams, the variables and the folder of an unfriendly machine."""

import contextlib
import io
import json
import os
import pwd
import sys
from importlib import import_module
from pathlib import Path

from lambdanets.cli import commands, run

# Loaded once, and not by each process that is forked.
for _file in {file for file, _ in commands().values()}:
    import_module(f"lambdanets.cli.{_file}")
import_module("lambdanets.paper.tables")
import_module("lambdanets.runs.compare")
import_module("lambdanets.launch.dry_run")

_NULL = os.open(os.devnull, os.O_RDWR)


def run_in(change, lines, folder):
    """Run command lines one after another in a forked process.

    Args:
        change: Called in it before the first; it may replace the standard streams.
        lines: The words of each command.
        folder: Where they run, and where what they print is kept.

    Returns:
        For each its exit code, and what came to its standard output and error, as far as those are whole.
    """
    kept = folder / "printed"
    kept.mkdir(exist_ok=True)
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            results = [_run_one(change, line, kept) for line in lines]
            (kept / "results.json").write_text(json.dumps(results))
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0, "the process ended without results"
    return [
        (code, (kept / f"{number}.out").read_text(), (kept / f"{number}.err").read_text())
        for number, code in enumerate(json.loads((kept / "results.json").read_text()))
    ]


def _run_one(change, line, kept):
    number = len([*kept.glob("*.out")])
    # All three are open, so that what is opened next has another number.
    for descriptor in (0, 1, 2):
        os.dup2(_NULL, descriptor)
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(kept / f"{number}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(file, descriptor)
        os.close(file)
    with change() or contextlib.nullcontext():
        sys.stdin, sys.stdout, sys.stderr = None, _python_stream(1), _python_stream(2)
        return run(line)


def _python_stream(descriptor):
    """A standard stream as Python makes it: none where it is closed."""
    try:
        return io.TextIOWrapper(io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False)), "utf-8")
    except OSError:
        return None


def full():
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def left():
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def closed():
    os.close(1)


def all_closed():
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def usual():
    pass


def homeless():
    """A user without a home, a name and a place for caches, and with the variables of a notebook."""
    os.environ["MPLBACKEND"] = "module://nowhere"
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        os.environ.pop(name, None)
    os.environ["PATH"] = "/usr/bin:/bin"

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    pwd.getpwuid = unknown


@contextlib.contextmanager
def deleted_folder():
    here = Path.cwd()
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        yield
    finally:
        os.chdir(here)
