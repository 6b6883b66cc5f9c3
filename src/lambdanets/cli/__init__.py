"""The command line: every public function in a file of this folder is a command.

Its parameters are the options, its docstring is the help. A file without a function of its own name holds a
group of commands: `check` in data.py is `lambdanets data check`.
"""

import ast
import logging
import os
import re
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lambdanets import __version__
from lambdanets.errors import NumericError, PathError, StoppedError, did_you_mean
from lambdanets.extensions import take_imports
from lambdanets.processes import die_with_parent
from lambdanets.streams import ReaderLeftError, print_error, print_line, standard_streams
from lambdanets.text import printable
from lambdanets.variables import PARENT, is_first

__all__ = ["commands", "run"]

# Where there is no terminal.
_WIDEST = 10_000

_USAGE = """usage: lambdanets COMMAND [options]
       lambdanets [--help | --version]

LambdaNetworks: long-range interactions without attention.

commands:
{commands}

The options of a command: lambdanets COMMAND --help
Recipes and data sets of your own: --import MODULE_OR_FILE"""


def run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 2 usage, the error's own, or 1."""
    _prepare_process()
    with standard_streams():
        try:
            if PARENT in os.environ:
                die_with_parent()
            code = _run(list(argv))
            # What waits in a buffer is a part of the product.
            return code or _flushed()
        except KeyboardInterrupt:
            print_error("lambdanets: interrupted")
            return 130
        except Exception as error:
            return _explain(error, argv)


def _flushed() -> int:
    sys.stdout.flush()
    return 0


def _explain(error: Exception, argv: Sequence[str]) -> int:
    """Print what an error says, as one line whatever was typed, and give its exit code."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("lambdanets"):
        # It reads what is installed: a third of the time of --help.
        from lambdanets.dependencies import missing_library

        error = missing_library(argv[0], str(error.name))
    code = getattr(error, "exit_code", None)
    if code is None:
        traceback.print_exception(error)
        return 1
    # All processes of a run agree on these: only the first one prints them.
    is_printed_elsewhere = isinstance(error, StoppedError | NumericError) and not is_first()
    if is_printed_elsewhere or isinstance(error, ReaderLeftError):
        return int(code)
    text = str(error)
    for word in argv:
        text = text.replace(word, printable(word))
    # Some messages begin with the command themselves.
    command = argv[0] if argv else ""
    named = re.match(rf"{re.escape(command)}( \w+)?: ", text)
    print_error(f"lambdanets {'' if named or not command else f'{command}: '}{text}")
    return int(code)


def _prepare_process() -> None:
    warnings.formatwarning = _format_warning
    # Read by OpenMP when torch is loaded: a thread that spins while it waits costs a factor of 16 as soon as
    # another process wants its core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # No window is shown, and what a notebook has set here may not be there. That there is no home to keep
    # fonts in, or that a user's own settings are odd, changes no figure.
    os.environ["MPLBACKEND"] = "agg"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _format_warning(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning of any library as one line, without the place in its source."""
    return f"warning: {message}\n"


def _check_working_directory() -> None:
    """Raise where it was deleted: relative paths mean nothing there, and torch does not load."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise PathError(
            "the working directory must exist, got one that was deleted. Change into another."
        ) from None


def commands() -> dict[str, tuple[str, str]]:
    """Find the commands without importing them: name -> (file, summary)."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [
            node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        ]
        is_group = path.stem not in {function.name for function in functions}
        for function in functions:
            name = f"{path.stem} {function.name}" if is_group else function.name
            found[name] = (path.stem, (ast.get_docstring(function) or "").partition("\n")[0])
    return found


def _run(argv: list[str]) -> int:
    known, argv = commands(), take_imports(argv)
    if argv[:1] in ([], ["-h"], ["--help"]):
        print_line(_usage(known))
        return 0 if argv else 2
    if argv[:1] == ["--version"]:
        print_line(f"lambdanets {__version__}")
        return 0
    group = {name: found for name, found in known.items() if name.startswith(f"{argv[0]} ")}
    if group and argv[1:2] in ([], ["-h"], ["--help"]):
        print_line(_usage(group))
        return 0 if argv[1:] else 2
    name = " ".join(argv[: 2 if group else 1])
    if name not in known:
        near = did_you_mean(name, known)
        print_error(f"lambdanets: command must be one of `lambdanets --help`, got {name!r}.{near}")
        return 2
    _check_working_directory()
    # Only the module of this command is imported: --help stays instant.
    module = import_module(f"lambdanets.cli.{known[name][0]}")
    call = import_module("lambdanets.cli._options").call
    *groups, function = name.split()
    try:
        return int(call(getattr(module, function), argv[len(groups) + 1 :], name) or 0)
    except SystemExit as stop:
        return int(stop.code or 0)


def _usage(known: dict[str, tuple[str, str]]) -> str:
    # By the standard library alone: help needs nothing that training needs.
    columns = shutil.get_terminal_size((_WIDEST, 1)).columns
    start = max(map(len, known)) + 4
    lines = (
        textwrap.fill(
            f"  {name:<{start - 2}}{summary}", max(columns, 2 * start), subsequent_indent=" " * start
        )
        for name, (_, summary) in known.items()
    )
    return _USAGE.format(commands="\n".join(lines))
