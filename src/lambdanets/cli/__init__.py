"""The command line: one file a command, each thin: it parses, calls a job and prints."""

import argparse
import io
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from lambdanets import __version__
from lambdanets.errors import DependencyError, NumericError, StoppedError
from lambdanets.training.torchrun import global_rank

# Name -> one line for --help. Each is a module here, with `configure(parser)` and `main(arguments)`.
COMMANDS: Final[dict[str, str]] = {
    "train": "train a recipe, or continue where it stood",
    "eval": "evaluate a finished or running run",
    "pseudo": "give labels to images that have none, and train on them",
    "predict": "classify image files with a trained run",
    "explain": "draw what a lambda network looks at in an image",
    "data": "look a data set over, write it as shards, index shards",
    "compare": "put finished runs side by side",
    "recipes": "list the recipes, or print a SLURM script of one",
    "doctor": "check versions, devices, disk and processes",
    "models": "list the models by name",
    "info": "parameters, FLOPs and memory of a model",
    "tables": "the paper's tables with ours beside the published",
    "figure": "the paper's Figure 4 with ours beside the published",
    "report": "one web page with all tables, the figure and runs",
    "bench": "what each implementation of an operator would cost",
}

# Commands whose options follow from their first words.
_FREE: Final = ("recipes", "train", "pseudo")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 2 usage, the error's own, or 1."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without the letters gets other ones, and no error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        parsed = _parser(arguments).parse_args(arguments)
        return int(parsed.main(parsed) or 0)
    except KeyboardInterrupt:
        print("lambdanets: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("lambdanets"):
            error = DependencyError(f"{error.name} must be installed. pip install 'lambdanets[train]'.")
        code = getattr(error, "exit_code", None)
        if code is None:
            traceback.print_exc()
            return 1
        # On these all processes of a run agree: the first one says it.
        if not (isinstance(error, StoppedError | NumericError) and global_rank()):
            print(f"lambdanets {arguments[0]}: {error}", file=sys.stderr)
        return int(code)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lambdanets", description="LambdaNetworks: long-range interactions without attention."
    )
    parser.add_argument("--version", action="version", version=f"lambdanets {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, summary in COMMANDS.items():
        # Tyro makes the options of these from a config; to argparse they are plain words.
        free: dict[str, Any] = {"prefix_chars": "\0", "add_help": False} if name in _FREE else {}
        description = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, description=description, **free)
        # Only the command that was asked for is imported: --help stays instant.
        if name == asked:
            module = import_module(f"lambdanets.cli.{name}")
            module.configure(command)
            command.set_defaults(main=module.main, given=list(arguments))
    return parser
