"""One run as the web page shows it: results, settings, classes and figures, whatever its state."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from lambdanets.errors import ArgumentError
from lambdanets.reading import UnreadableError, read_bytes
from lambdanets.recipes import get_recipe
from lambdanets.runs.class_report import (
    HEADINGS,
    class_counts,
    listed_classes,
    load_confusion,
)
from lambdanets.runs.compare import RunSummary, setting_text, summarize
from lambdanets.runs.figure_style import dark_variant_of
from lambdanets.runs.plots import draw_confusion, learning_curves, position_tables
from lambdanets.tensor_files import open_tensors
from lambdanets.terminal import format_duration
from lambdanets.training.changes import differences
from lambdanets.training.config import RunConfig, TrainConfig
from lambdanets.training.run_folder import RunFolder, headline

# What else an image file in the folder is of, by its name without .png.
_CAPTIONS: Final = {
    "curves": "Loss, error and learning rate over the epochs.",
    "confusion": "Which class is predicted as which.",
    "lambdas": "Learned position tables of the best weights: what each query channel reads at each offset.",
    "positions": "Explained on an image: the position table of one layer, for each key.",
    "field": "Explained on an image: what one position reads, and which pixels move it.",
    "content": "Explained on an image: what the content's summary is made of, for each key.",
}
# The end of a position table's name in a file of weights.
_TABLE: Final = ".position.table"
# Images of a folder that the page takes in, and the largest file: more would make it slow to open.
_MOST_IMAGES: Final = 12
_LARGEST_IMAGE: Final = 1_500_000


@dataclass(frozen=True, kw_only=True)
class ShownFigure:
    """A figure of a run, to be drawn light and dark, or an image file with its dark variant, if any."""

    title: str
    caption: str
    content: Figure | bytes
    dark: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """One run.

    Attributes:
        path: The run folder.
        problem: Why there is nothing to show, or not all; empty for a finished run.
        summary: Its numbers, where it is of a classifier and an epoch is done.
        caption: Recipe and model.
        rows: Results by name.
        settings: Name, the recipe's value and this run's, of all that differ.
        classes: The rows of the table of classes.
        num_classes: How many there are; the table has the worst of many.
        figures: In the order shown.
    """

    path: Path
    problem: str = ""
    summary: RunSummary | None = None
    caption: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[tuple[str, str, str]] = ()
    classes: Sequence[tuple[str, ...]] = ()
    num_classes: int = 0
    figures: Sequence[ShownFigure] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings of the table of classes."""
        return HEADINGS


def show_run(path: Path) -> ShownRun:
    """Read what there is of a run. What cannot be read is said in `problem`; nothing is raised."""
    try:
        folder = RunFolder.existing(path)
        config = folder.read_config(RunConfig)
        records = folder.read_metrics()
        if not records:
            return ShownRun(
                path=path,
                problem="No epoch is done yet.",
                caption=f"{config.recipe}: {config.model.name}",
                settings=_changed_settings(config),
            )
        return _show(folder, config, records)
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = str(error) if hasattr(error, "exit_code") else f"{type(error).__name__}: {error}"
        return ShownRun(path=path, problem=f"It cannot be shown: {reason}")


def _show(folder: RunFolder, config: RunConfig, records: Sequence[Mapping[str, Any]]) -> ShownRun:
    summary = summarize(folder.path) if isinstance(config, TrainConfig) else None
    title = f"{config.recipe}: {config.model.name}, {_headline(records[-1])}"
    matrix = load_confusion(folder.path)
    counts = [] if matrix is None else class_counts(*matrix)
    classes = [count.cells() for count in listed_classes(counts)]
    figures = [_drawn("curves", learning_curves(records, title, config.data.test_name))]
    if matrix is not None:
        figures.append(_drawn("confusion", draw_confusion(*matrix, title)))
    if tables := _position_tables(folder.best):
        figures.append(_drawn("lambdas", position_tables(tables, f"{title}: learned position lambdas")))
    known = {figure.title for figure in figures}
    done, planned = records[-1]["epoch"], config.sched.epochs
    problem = "" if done == planned else f"Unfinished: {done} of {planned} epochs are done."
    if not problem and not folder.report.is_file():
        problem = "Its report has not been written: the run ended before it."
    return ShownRun(
        path=folder.path,
        problem=problem,
        summary=summary,
        caption=f"{config.recipe}: {config.model.name}",
        rows=_rows(config, records, summary),
        settings=_changed_settings(config),
        classes=classes,
        num_classes=len(counts),
        figures=[*figures, *_other_images(folder.path, known)],
    )


def _headline(record: Mapping[str, Any]) -> str:
    # The columns of a training's lines mean nothing here.
    return " ".join(headline(record).split())


def _rows(
    config: RunConfig, records: Sequence[Mapping[str, Any]], summary: RunSummary | None
) -> dict[str, str]:
    """The results by name, in words."""
    last, epochs = records[-1], f"{records[-1]['epoch']} of {config.sched.epochs}"
    if summary is None:
        return {
            "after the last epoch": _headline(last),
            "epochs": epochs,
            "training time": format_duration(last["seconds"]),
        }
    total, name = summary.total, summary.test_name
    rows = {f"accuracy after the last epoch, {name} images": _accuracy(summary.correct, total)}
    if summary.raw_correct is not None:
        rows = {
            f"EMA after the last epoch, {name} images": _accuracy(summary.correct, total),
            f"raw weights after the last epoch, {name} images": _accuracy(summary.raw_correct, total),
        }
    return {
        **rows,
        "best epoch": f"{_accuracy(summary.best_correct, total)}; chosen on the same images, so optimistic",
        "parameters": f"{summary.parameters:,}",
        "seed": str(config.seed),
        "epochs": epochs,
        "training time": format_duration(summary.seconds),
        "training speed": f"{summary.images_per_s:,.0f} images/s",
    }


def _accuracy(correct: int, total: int) -> str:
    return f"{correct / total:.2%}, {correct} of {total}"


def _changed_settings(config: RunConfig) -> list[tuple[str, str, str]]:
    """Name, the recipe's value and this run's, of each setting that differs; none for an unknown recipe."""
    try:
        recipe = get_recipe(config.recipe, type(config))
    except ArgumentError:
        return []
    changed = differences(recipe, config)
    return [(name, setting_text(old), setting_text(new)) for name, (old, new) in changed.items()]


def _drawn(name: str, content: Figure | bytes, dark: bytes | None = None) -> ShownFigure:
    return ShownFigure(title=name, caption=_CAPTIONS.get(name, name), content=content, dark=dark)


def _position_tables(weights: Path) -> dict[str, Any]:
    """The relative tables of all lambda layers, by the name of the layer."""
    if not weights.is_file():
        return {}
    with open_tensors(weights, "numpy") as file:
        names = [name for name in file.keys() if name.endswith(_TABLE)]  # noqa: SIM118
        tables = {name.removesuffix(_TABLE): file.get_tensor(name) for name in names}
    # One, two or three axes of an offset: an image shows two.
    return {name: table.astype("float32") for name, table in tables.items() if table.ndim == 4}


def _other_images(folder: Path, known: set[str]) -> Iterator[ShownFigure]:
    """The image files that are not drawn anew, those that the library writes first."""
    order = [*_CAPTIONS]
    paths = [path for path in folder.glob("*.png") if path.stem not in known]
    paths.sort(key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.stem))
    small = [path for path in paths if path.is_file() and path.stat().st_size <= _LARGEST_IMAGE]
    for path in small[:_MOST_IMAGES]:
        dark = dark_variant_of(path)
        with suppress(UnreadableError):
            content = read_bytes(path, limit=_LARGEST_IMAGE)
            yield _drawn(path.stem, content, read_bytes(dark) if dark.is_file() else None)
