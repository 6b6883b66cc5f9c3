"""`lambdanets compare`: put finished runs side by side."""

import argparse
from pathlib import Path

from lambdanets.jobs.compare import RunSummary, compare


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders")


def main(arguments: argparse.Namespace) -> None:
    """Print one column for each run."""
    columns = [_column(summary) for summary in compare(arguments.runs)]
    names = max(len(name) for name in columns[0])
    widths = [max(map(len, column.values())) for column in columns]
    for name in columns[0]:
        cells = (f"{column[name]:>{width}}" for column, width in zip(columns, widths, strict=True))
        print(f"{name:<{names}}   {'   '.join(cells)}")


def _column(summary: RunSummary) -> dict[str, str]:
    done, planned = summary.epochs
    return {
        "run": str(summary.path),
        "recipe": summary.recipe,
        "model": summary.model,
        "accuracy, last epoch": f"{summary.correct / summary.total:.2%}",
        "correct": f"{summary.correct} of {summary.total}",
        "best epoch (same pictures)": f"{summary.best_correct / summary.total:.2%}",
        "parameters": f"{summary.parameters:,}",
        "epochs": str(done) if done == planned else f"{done} of {planned}, unfinished",
        "training time": f"{summary.seconds:.1f} s",
        "training images/s": f"{summary.images_per_s:,.0f}",
    }
