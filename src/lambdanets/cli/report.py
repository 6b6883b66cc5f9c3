"""`lambdanets report`: one web page with all tables, figures and runs."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="(report.html)"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="measured and trained (results)"
    )
    parser.add_argument(
        "--machine", metavar="NAME", help="whose measurements: part of a name, or all (this one's, or newest)"
    )
    parser.add_argument(
        "--run",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="RUN",
        help="finished runs to show",
    )


def main(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from lambdanets.paper.page import write_report

    write_report(arguments.out, results=arguments.results, machine=arguments.machine, runs=arguments.run)
    print(arguments.out)
    return 0
