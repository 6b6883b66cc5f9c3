"""`lambdanets tables`: the paper's tables with ours beside the published."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lambdanets.cli.threads import keep_threads_asleep

FORMATS = ("text", "markdown", "csv", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("numbers", metavar="N", type=int, nargs="*", help="1 to 20; none lists all")
    parser.add_argument("--format", choices=FORMATS, default="text")
    add_results(parser)
    parser.add_argument("--rows", metavar="PATTERN", default="*", help="which rows to measure or to train")
    measure = parser.add_argument_group("measuring", "speed and memory of Tables 3, 4, 5, 12, 13 and 18")
    measure.add_argument("--measure", action="store_true", help="on CUDA where there is one")
    measure.add_argument("--batch", type=int, help="images at a time (128 on CUDA, otherwise 8)")
    measure.add_argument("--time-limit", type=float, default=300.0, metavar="S", help="a network (300)")
    train = parser.add_argument_group("training", "accuracy of Tables 3, 4 and 8 to 12, with small networks")
    train.add_argument("--train", metavar="DATASET", help="digits or relation")
    train.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each row (5)")
    train.add_argument("--runs", type=Path, default=Path("runs/tables"), metavar="DIR", help="(runs/tables)")
    train.add_argument("--processes", type=int, metavar="N", help="runs at a time (one a core)")


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add what says where results are and whose are shown."""
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="measured and trained (results)"
    )
    parser.add_argument(
        "--machine", metavar="NAME", help="whose measurements: part of a name, or all (this one's, or newest)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure and train where asked to, then print the list of tables, or those asked for."""
    check(arguments)
    from lambdanets.paper.formats import FORMATS as RENDERERS
    from lambdanets.paper.formats import summary, to_text
    from lambdanets.paper.results import load_results
    from lambdanets.paper.tables import NUMBERS, table

    numbers = arguments.numbers or NUMBERS
    if arguments.measure:
        _measure(arguments, numbers)
    if arguments.train is not None:
        _train(arguments, numbers)
    results = load_results(arguments.results, arguments.machine)
    tables = [table(number, results) for number in numbers]
    if not arguments.numbers and arguments.format == "text":
        print(summary(tables))
    elif arguments.format == "text":
        print(to_text(tables, os.get_terminal_size().columns if sys.stdout.isatty() else None))
    else:
        print(RENDERERS[arguments.format](tables))
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Raise for options that cannot be, before torch is loaded."""
    from lambdanets.errors import check_positive

    check_positive("tables", seeds=arguments.seeds)
    for name in ("batch", "processes"):
        if getattr(arguments, name) is not None:
            check_positive("tables", **{name: getattr(arguments, name)})


def _measure(arguments: argparse.Namespace, numbers: Sequence[int]) -> None:
    from lambdanets.paper.measure import measure_tables
    from lambdanets.paper.results import append_result

    for result in measure_tables(
        numbers,
        batch=arguments.batch,
        time_limit_s=arguments.time_limit,
        rows=arguments.rows,
        log=_log,
    ):
        append_result(arguments.results, result)


def _train(arguments: argparse.Namespace, numbers: Sequence[int]) -> None:
    keep_threads_asleep()
    from lambdanets.paper.results import append_result
    from lambdanets.paper.train import train_tables

    for result in train_tables(
        numbers,
        arguments.train,
        range(arguments.seeds),
        runs=arguments.runs,
        log=_log,
        rows=arguments.rows,
        num_processes=arguments.processes,
    ):
        append_result(arguments.results, result)


def _log(text: str) -> None:
    # Beside the tables, which a program may read.
    print(text, file=sys.stderr, flush=True)
