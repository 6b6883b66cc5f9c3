"""The command line: one file a command, each thin: it parses, calls a job and prints."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from lambdanets import __version__

# Name -> one line for --help. Each is a module here, with `configure(parser)` and `main(arguments)`.
COMMANDS: Final[dict[str, str]] = {
    "train": "train a recipe, or continue where it stood",
    "eval": "evaluate a finished or running run",
    "predict": "classify image files with a trained run",
    "compare": "put finished runs side by side",
    "models": "list the models by name",
    "info": "parameters, FLOPs and memory of a model",
}


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 2 usage, the error's own, or 1."""
    parser = _parser(arguments)
    parsed, rest = parser.parse_known_args(arguments)
    if rest and parsed.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    parsed.rest = rest
    try:
        return int(parsed.main(parsed) or 0)
    except KeyboardInterrupt:
        print("lambdanets: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            traceback.print_exc()
            return 1
        print(f"lambdanets {parsed.command}: {error}", file=sys.stderr)
        return int(code)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lambdanets", description="LambdaNetworks: long-range interactions without attention."
    )
    parser.add_argument("--version", action="version", version=f"lambdanets {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        # Only the command that was asked for is imported: --help stays instant.
        if name == asked:
            module = import_module(f"lambdanets.cli.{name}")
            module.configure(command)
            command.set_defaults(main=module.main)
    return parser
