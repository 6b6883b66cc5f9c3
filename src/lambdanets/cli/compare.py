"""`lambdanets compare`: put finished runs side by side."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lambdanets.runs.compare import RunSummary, Seeds, seeds_of, summarize

# Blanks between two columns.
_GAP = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(text)")
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="short for --format json"
    )


def main(arguments: argparse.Namespace) -> None:
    """Print one column for each run, and what seeds of one recipe come to together."""
    summaries = [summarize(run) for run in arguments.runs]
    groups = seeds_of(summaries)
    if arguments.format == "json":
        runs = [summary.to_dict() for summary in summaries]
        print(json.dumps({"runs": runs, "seeds": [group.to_dict() for group in groups]}, indent=2))
        return
    # A file has lines of any length, a terminal has not.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n\n".join(_blocks([_column(summary) for summary in summaries], width)))
    for group in groups:
        print(f"\n{_together(group)}")


def _blocks(columns: Sequence[Mapping[str, str]], width: int | None) -> Iterator[str]:
    """As many columns beside each other as there is room for, the others below."""
    names = [name for name in columns[0] if any(column[name] for column in columns)]
    first = max(map(len, names))
    widths = [max(map(len, column.values())) for column in columns]
    start = 0
    while start < len(columns):
        end, used = start + 1, first + _GAP + widths[start]
        while end < len(columns) and (width is None or used + _GAP + widths[end] <= width):
            used += _GAP + widths[end]
            end += 1
        yield "\n".join(
            f"{name:<{first}}"
            + "".join(f"{'':{_GAP}}{columns[place][name]:>{widths[place]}}" for place in range(start, end))
            for name in names
        )
        start = end


def _column(summary: RunSummary) -> dict[str, str]:
    done, planned = summary.epochs
    top5 = summary.top5_correct
    return {
        "run": str(summary.path),
        "recipe": summary.recipe,
        "model": summary.model,
        "seed": str(summary.config.seed),
        "accuracy, last epoch": f"{summary.accuracy:.2%}",
        "correct": f"{summary.correct} of {summary.total}",
        "top-5": "" if top5 is None else f"{top5 / summary.total:.2%}",
        "best epoch (same images)": f"{summary.best_correct / summary.total:.2%}",
        "parameters": f"{summary.parameters:,}",
        "epochs": str(done) if done == planned else f"{done} of {planned}, unfinished",
        "training time": f"{summary.seconds:.1f} s",
        "training images/s": f"{summary.images_per_s:,.0f}",
    }


def _together(group: Seeds) -> str:
    seeds = ", ".join(str(run.config.seed) for run in group.runs)
    lowest, highest = min(group.accuracies), max(group.accuracies)
    return (
        f"{group.runs[0].recipe} with seeds {seeds}:\n"
        f"  {group.mean:.2%} in the mean, standard deviation {group.std:.2%},"
        f" from {lowest:.2%} to {highest:.2%}"
    )
