"""Images of a run: curves, confusion matrix and learned position lambdas. No window, no global state."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from torch import Tensor

from lambdanets.errors import ArgumentError
from lambdanets.runs.class_report import ClassCount, class_counts, confused_pairs
from lambdanets.runs.figure_style import DPI, MIN_WIDTH, drawing, fold, set_title, shorten, text_width

_TRAIN, _TEST, _RAW = "tab:blue", "tab:orange", "tab:purple"
_GROUPS: Final = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:gray")
# More classes than a matrix has room for names and numbers of.
_MANY: Final = 30
# More classes than a matrix says anything of, and it would have their square in pixels and in memory.
_VERY_MANY: Final = 300
# Letters of a class name, the others are left out.
_LONGEST_NAME: Final = 28
# Inches and points of a label beside a row of panels.
_ROW_LABEL, _ROW_LABEL_SIZE = 1.5, 8


@drawing()
def learning_curves(records: Sequence[Mapping[str, Any]], title: str, test_name: str = "test") -> Figure:
    """Draw loss, error (of a detector: average precision) and learning rate over the epochs.

    Args:
        records: The lines of metrics.jsonl.
        title: Above the three panels.
        test_name: What the evaluated images are called.
    """
    figure = Figure(figsize=(12, 4.0), dpi=DPI, layout="constrained")
    losses, errors, rates = figure.subplots(1, 3)
    is_classifier = "test_accuracy" in records[-1]
    lines = {"train": ("train_loss", _TRAIN), **_tested(records, "loss", test_name)}
    _draw(
        losses,
        records,
        lines,
        "loss (in training: smoothed labels)" if is_classifier else "sum of the losses",
    )
    if is_classifier:
        _draw_errors(errors, records, test_name)
    else:
        _draw_precision(errors, records)
    _draw(rates, records, {"learning rate": ("learning_rate", "tab:green")}, "learning rate")
    set_title(figure, title)
    return figure


def _tested(
    records: Sequence[Mapping[str, Any]], quantity: str, test_name: str
) -> dict[str, tuple[str, str]]:
    """Label -> key and colour of the lines of a quantity on the evaluated images."""
    if f"raw_test_{quantity}" not in records[-1]:
        return {test_name: (f"test_{quantity}", _TEST)}
    return {
        f"{test_name}, EMA": (f"test_{quantity}", _TEST),
        f"{test_name}, raw": (f"raw_test_{quantity}", _RAW),
    }


def _draw_errors(errors: Axes, records: Sequence[Mapping[str, Any]], test_name: str) -> None:
    lines = {"train": ("train_accuracy", _TRAIN), **_tested(records, "accuracy", test_name)}
    wrong = [
        {"epoch": record["epoch"]}
        | {key: None if record.get(key) is None else 100 * (1 - record[key]) for key, _ in lines.values()}
        for record in records
    ]
    _draw(errors, wrong, lines, "wrong, %")
    _error_axis(errors)


@drawing()
def compared_errors(
    groups: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], title: str, test_name: str = "test"
) -> Figure:
    """Draw the error of the EMA over the epochs: a line for a run, mean and band of all values for seeds.

    Args:
        groups: Name -> the lines of metrics.jsonl of each of its runs.
        title: Above the panel.
        test_name: What the evaluated images are called.
    """
    names = [
        fold(f"{name} (n={len(runs)})" if len(runs) > 1 else name, 3.2, 9) for name, runs in groups.items()
    ]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(9, max(4.2, 1.5 + 0.2 * lines)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for place, (name, runs) in enumerate(zip(names, groups.values(), strict=True)):
        epochs = [record["epoch"] for record in min(runs, key=len)]
        wrong = np.array(
            [[100 * (1 - record["test_accuracy"]) for record in run[: len(epochs)]] for run in runs]
        )
        color = _GROUPS[place % len(_GROUPS)]
        style = "-" if place < len(_GROUPS) else "--"
        marker = "." if len(epochs) < 5 else ""
        axes.plot(epochs, wrong.mean(0), color=color, label=name, linestyle=style, marker=marker)
        if len(runs) > 1:
            axes.fill_between(epochs, wrong.min(0), wrong.max(0), color=color, alpha=0.2, linewidth=0)
    _error_axis(axes)
    axes.set_title(f"wrong, % of the {test_name} images; band: lowest to highest of the seeds", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    # Beside the axes, so on no line, whatever their number.
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    set_title(figure, title)
    return figure


def _error_axis(axes: Axes) -> None:
    """Scale an axis of errors in percent so that few are seen as well as many."""
    # Linear below one in a thousand, so that no mistake at all is on the page too.
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.3)
    ticks = [0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    drawn = [value for line in axes.lines for value in np.ravel(line.get_ydata()) if np.isfinite(value)]
    top = next((tick for tick in ticks[1:] if tick >= max(drawn, default=100)), 100)
    axes.set_yticks([tick for tick in ticks if tick <= top])
    # A little more on both sides, for lines that lie on the edge.
    low = max((tick for tick in ticks if tick <= min(drawn, default=0)), default=0)
    axes.set_ylim(0.95 * low if low else -0.02, 1.05 * top)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_precision(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    kinds = {"box": ("box_ap", _TEST), "mask": ("mask_ap", "tab:red")}
    found = [
        {"epoch": record["epoch"]}
        | {key: None if record.get(key) is None else 100 * record[key] for key, _ in kinds.values()}
        for record in records
    ]
    _draw(axes, found, kinds, "average precision, %")
    axes.set_ylim(bottom=0)


def draw_confusion(
    matrix: Int[Tensor, "num_classes num_classes"], labels: Sequence[str], title: str
) -> Figure:
    """Draw a confusion matrix, or of very many classes what stands out in it.

    Args:
        matrix: Images of each class (row) by the class they were predicted as (column); it may be sparse.
        labels: The name of each class.
        title: Above it.
    """
    if len(labels) > _VERY_MANY:
        return recalls(class_counts(matrix, labels), title)
    return confusion(matrix.to_dense().numpy(), labels, title)


@drawing()
def recalls(counts: Sequence[ClassCount], title: str) -> Figure:
    """Draw the recall of all classes in order, and the most frequent confusions.

    Args:
        counts: The classes.
        title: Above the two panels.
    """
    pairs = confused_pairs(counts)
    figure = Figure(figsize=(12, 4.6), dpi=DPI, layout="constrained")
    ordered, confused = figure.subplots(1, 2)
    found = sorted(100 * count.recall for count in counts if count.total)
    ordered.plot(range(1, len(found) + 1), found, color=_TEST)
    ordered.set_xlabel(f"the {len(found):,} classes with images, the worst first")
    finish_axes(ordered, "recall, %", with_legend=False)
    ordered.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    confused.barh(range(len(pairs)), [times for *_, times in pairs], color=_TRAIN)
    names = [
        f"{shorten(label, _LONGEST_NAME)} as {shorten(other, _LONGEST_NAME)}" for label, other, _ in pairs
    ]
    confused.set_yticks(range(len(pairs)), names, fontsize=8)
    confused.invert_yaxis()
    confused.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    confused.set_xlabel("images")
    finish_axes(confused, "most frequent confusions", with_legend=False)
    set_title(figure, title)
    return figure


@drawing()
def confusion(
    counts: Int[np.ndarray, "num_classes num_classes"], labels: Sequence[str], title: str
) -> Figure:
    """Draw which class is predicted as which; mistakes are coloured, the diagonal is not.

    Of many classes there are colours alone, and a few mistakes are as easily seen as many.

    Args:
        counts: Images of each class (row) by the class they were predicted as (column).
        labels: The name of each class.
        title: Above the matrix.
    """
    if counts.shape != (len(labels), len(labels)):
        raise ArgumentError(
            f"confusion: counts must have shape {(len(labels), len(labels))}, one row for each label,"
            f" got {counts.shape}."
        )
    num = len(labels)
    mistakes = np.ma.masked_equal(np.where(np.eye(num, dtype=bool), 0, counts), 0)
    most = max(2 * mistakes.filled(0).max(), 1)
    if num > _MANY:
        figure = Figure(figsize=(9, 9), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        axes.imshow(mistakes, cmap="Reds", norm=PowerNorm(0.5, vmin=-0.2 * most, vmax=most))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10, integer=True))
    else:
        figure, axes = _written_matrix(counts, [shorten(label, _LONGEST_NAME) for label in labels])
        axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=most)
    # Names of classes move the axes, whose own words then need more room than the first layout gives.
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    axes.set_xlabel("predicted as")
    axes.set_ylabel("is")
    set_title(figure, title)
    return figure


def _written_matrix(
    counts: Int[np.ndarray, "num_classes num_classes"], labels: Sequence[str]
) -> tuple[Figure, Axes]:
    """A matrix as large as its numbers and names need."""
    num, digits = len(labels), len(str(counts.max()))
    size = 10 if num <= 10 else 8
    # A digit is 0.64 of the height of its letters wide.
    cell = max(3.2 / num, 0.5 if num <= 10 else 0.3, 0.06 * digits + 0.06)
    written = min(10, (72 * cell - 4) / (0.64 * max(digits, 2)))
    name = max(text_width(label, size) for label in labels)
    is_upright = name > cell - 0.05
    sides = (num * cell + name + 0.8, num * cell + (name if is_upright else 0.2) + 0.9)
    figure = Figure(figsize=(max(sides[0], MIN_WIDTH), sides[1]), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for row, column in zip(*np.nonzero(counts), strict=True):
        weight = "bold" if row == column else "normal"
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", weight=weight, fontsize=written)
    style: dict[str, Any] = {"fontsize": size}
    axes.set_xticks(range(num), labels, rotation=90 if is_upright else 0, **style)
    axes.set_yticks(range(num), labels, **style)
    return figure, axes


@drawing()
def position_tables(tables: Mapping[str, Float[np.ndarray, "u k height width"]], title: str) -> Figure:
    """Draw what each query channel reads at each relative offset.

    λᵖₙ = Σₘ R[m - n] vₘᵀ: one panel is R of one channel, the query in the middle. Red reads a value as it
    is, blue with the opposite sign, white not at all. Each row has its own scale, symmetric about zero.

    Paper: §3.1 (position lambdas).

    Args:
        tables: Layer -> R. One row of panels for each layer and intra-depth, one panel for each channel.
        title: Above the panels.
    """
    rows = [
        (name if len(table) == 1 else f"{name}\nu={u}", plane)
        for name, table in tables.items()
        for u, plane in enumerate(table)
    ]
    if not rows:
        raise ArgumentError("position_tables: tables must hold at least one layer, got none.")
    depth = max(len(plane) for _, plane in rows)
    width = max(1.0 + _ROW_LABEL + 0.95 * depth, MIN_WIDTH)
    figure = Figure(figsize=(width, 1.0 + 1.15 * len(rows)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(rows), depth, squeeze=False)
    for panels, (name, plane) in zip(grid, rows, strict=True):
        _table_row(figure, panels.tolist(), name, plane)
    for k, panel in enumerate(grid[0]):
        panel.set_title(f"k = {k}", fontsize=8)
    set_title(figure, title)
    return figure


def _table_row(
    figure: Figure, panels: Sequence[Axes], name: str, plane: Float[np.ndarray, "k height width"]
) -> None:
    limit = float(np.abs(plane).max()) or 1.0
    for panel in panels[len(plane) :]:
        panel.set_axis_off()
    for panel, weights in zip(panels, plane, strict=False):
        height, width = weights.shape
        extent = (-width / 2, width / 2, height / 2, -height / 2)
        image = panel.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent)
        panel.plot(0, 0, "k+", markersize=5, markeredgewidth=0.7)
        panel.set_xticks([])
        panel.set_yticks([])
    label = fold(f"{name}\n{height}×{width}", _ROW_LABEL, _ROW_LABEL_SIZE)
    style: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "center"}
    panels[0].set_ylabel(label, fontsize=_ROW_LABEL_SIZE, **style)
    figure.colorbar(image, ax=panels, shrink=0.9, pad=0.01).ax.tick_params(labelsize=7)


def _draw(
    axes: Axes, records: Sequence[Mapping[str, Any]], lines: Mapping[str, tuple[str, str]], title: str
) -> None:
    """Draw lines over the epochs, each by its label, key and colour; epochs without a value are left out."""
    marker = 6 if len(records) < 5 else 3 if len(records) < 100 else 0
    for label, (key, color) in lines.items():
        points = [(record["epoch"], record[key]) for record in records if record.get(key) is not None]
        epochs, values = zip(*points, strict=True) if points else ((), ())
        axes.plot(epochs, values, color=color, label=label, marker=".", markersize=marker)
    finish_axes(axes, title, with_legend=len(lines) > 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")


def finish_axes(axes: Axes, title: str, *, with_legend: bool) -> None:
    """Give axes a title, a grid and a legend, which stands between title and axes and so on no line."""
    if with_legend:
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.2}
        axes.legend(frameon=False, ncols=4, fontsize=9, handlelength=1.5, columnspacing=1.2, **place)
    axes.set_title(title, pad=22 if with_legend else 6)
    axes.grid(alpha=0.3)
