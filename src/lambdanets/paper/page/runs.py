"""Finished runs for the page: their numbers and their images."""

from pathlib import Path
from typing import Final

from lambdanets.paper.page.figures import Image, figure
from lambdanets.paper.page.scrolling import plain_table, section
from lambdanets.runs.compare import RunSummary
from lambdanets.runs.display import format_duration
from lambdanets.runs.markup import Html

# The images of every run first, and any others behind them by name.
_CAPTIONS: Final = {
    "curves": "Loss, error and learning rate over the epochs.",
    "confusion": "Which class is taken for which.",
    "lambdas": "Learned position tables: what each query channel reads at each relative offset.",
    "positions": "Explained on an image: the position table of one layer, for each key.",
    "field": "Explained on an image: what one position reads, and which pixels move it.",
    "content": "Explained on an image: what the content's summary is made of, for each key.",
}


def run_section(summary: RunSummary, place: int) -> Html:
    """What a run has come to.

    Args:
        summary: Its numbers.
        place: Among the runs of the page, from 1.
    """
    done, planned = summary.epochs
    rows = [
        ("accuracy after the last epoch", _accuracy(summary.correct, summary.total)),
        ("accuracy after the best epoch", f"{_accuracy(summary.best_correct, summary.total)}, so optimistic"),
        ("parameters", str(summary.parameters)),
        ("epochs", f"{done} of {planned}"),
        ("training time", format_duration(summary.seconds)),
        ("training speed", f"{summary.images_per_s:.0f} images/s"),
    ]
    anchor = f"run-{place}"
    caption = (
        f"{summary.recipe}: {summary.model}. Accuracy is of held-out images, from which the best is chosen."
    )
    grid = plain_table(anchor, caption, ("quantity", "value"), rows)
    figures = (figure(image) for image in _images(summary.path))
    return section(anchor, run_title(summary), grid, *figures)


def run_title(summary: RunSummary) -> str:
    """As the contents and the heading have it."""
    return f"Run {summary.path.name}"


def _accuracy(correct: int, total: int) -> str:
    return f"{correct / total:.2%}, {correct} of {total}"


def _images(run: Path) -> list[Image]:
    known = list(_CAPTIONS)
    paths = sorted(
        run.glob("*.png"),
        key=lambda path: (known.index(path.stem) if path.stem in known else len(known), path.stem),
    )
    return [
        Image(
            title=f"{run.name}: {path.stem}",
            caption=_CAPTIONS.get(path.stem, path.stem),
            png=path.read_bytes(),
        )
        for path in paths
    ]
