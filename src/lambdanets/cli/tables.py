"""`lambdanets tables`: the paper's tables with ours beside the published."""

import argparse
import os
import sys
from pathlib import Path

FORMATS = ("text", "markdown", "csv", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("numbers", metavar="N", type=int, nargs="*", help="1 to 20; none lists all")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="measured and trained (results)"
    )
    parser.add_argument(
        "--machine", metavar="NAME", help="whose measurements: part of a name, or all (this one's, or newest)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Print the list of tables, or those asked for."""
    from lambdanets.jobs.origin import machine_name
    from lambdanets.jobs.tables.contents import NUMBERS, table
    from lambdanets.jobs.tables.rendering import FORMATS as RENDERERS
    from lambdanets.jobs.tables.rendering import summary, to_text
    from lambdanets.jobs.tables.results import Results, read_results

    results = Results(results=read_results(arguments.results), machine=arguments.machine, here=machine_name())
    tables = [table(number, results) for number in arguments.numbers or NUMBERS]
    if not arguments.numbers and arguments.format == "text":
        print(summary(tables))
    elif arguments.format == "text":
        print(to_text(tables, os.get_terminal_size().columns if sys.stdout.isatty() else None))
    else:
        print(RENDERERS[arguments.format](tables))
    return 0
