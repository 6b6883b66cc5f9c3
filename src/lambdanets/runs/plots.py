"""Images of a run: curves, confusion matrix and learned position lambdas. No window, no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lambdanets.errors import ArgumentError

_TRAIN, _TEST = "tab:blue", "tab:orange"
_DPI: Final = 130
# More classes than a matrix has room for names and numbers of.
_MANY: Final = 30


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def learning_curves(records: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw loss, error (of a detector: average precision) and learning rate over the epochs.

    Args:
        records: The lines of metrics.jsonl.
        title: Above the three panels.
    """
    figure = Figure(figsize=(12, 3.8), dpi=_DPI, layout="constrained")
    losses, errors, rates = figure.subplots(1, 3)
    epochs = [record["epoch"] for record in records]
    _lines(
        losses,
        epochs,
        records,
        {"train_loss": _TRAIN, "test_loss": _TEST},
        "loss (in training: smoothed labels)" if "test_accuracy" in records[-1] else "sum of the losses",
    )
    if "test_accuracy" in records[-1]:
        _draw_errors(errors, epochs, records)
    else:
        _draw_precision(errors, epochs, records)
    _lines(rates, epochs, records, {"learning_rate": "tab:green"}, "learning rate")
    figure.suptitle(title, wrap=True)
    return figure


def _draw_errors(errors: Axes, epochs: Sequence[int], records: Sequence[Mapping[str, Any]]) -> None:
    wrong = [
        {key: 100 * (1 - record[key]) for key in ("train_accuracy", "test_accuracy")} for record in records
    ]
    _lines(errors, epochs, wrong, {"train_accuracy": _TRAIN, "test_accuracy": _TEST}, "wrong, %")
    # Linear below one in a thousand, so that no mistake at all is on the page too.
    errors.set_yscale("symlog", linthresh=0.1, linscale=0.3)
    errors.set_ylim(bottom=0)
    errors.set_yticks([0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    errors.yaxis.set_major_formatter("{x:g}")
    errors.yaxis.set_minor_formatter(NullFormatter())


def _draw_precision(axes: Axes, epochs: Sequence[int], records: Sequence[Mapping[str, Any]]) -> None:
    kinds = {"box_ap": _TEST, "mask_ap": "tab:red"}
    found = [{name: 100 * (record.get(name) or 0) for name in kinds} for record in records]
    _lines(axes, epochs, found, kinds, "average precision, %")
    axes.set_ylim(bottom=0)


def confusion(
    counts: Int[np.ndarray, "num_classes num_classes"], labels: Sequence[str], title: str
) -> Figure:
    """Draw which class is taken for which; mistakes are coloured, the diagonal is not.

    Of many classes there are colours alone, and a few mistakes are as easily seen as many.

    Args:
        counts: Images of each class (row) by the class they were taken for (column).
        labels: The name of each class.
        title: Above the matrix.
    """
    if counts.shape != (len(labels), len(labels)):
        raise ArgumentError(
            f"confusion: counts must have shape {(len(labels), len(labels))}, one row for each label,"
            f" got {counts.shape}."
        )
    num = len(labels)
    side = 6 if num <= 10 else 9
    figure = Figure(figsize=(side, side), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    mistakes = np.ma.masked_equal(np.where(np.eye(num, dtype=bool), 0, counts), 0)
    most = max(2 * mistakes.filled(0).max(), 1)
    if num > _MANY:
        axes.imshow(mistakes, cmap="Reds", norm=PowerNorm(0.5, vmin=-0.2 * most, vmax=most))
    else:
        axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=most)
        for row, column in zip(*np.nonzero(counts), strict=True):
            weight = "bold" if row == column else "normal"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", weight=weight)
        axes.set_xticks(range(num), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
        axes.set_yticks(range(num), labels)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title(title)
    return figure


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
    figure = Figure(figsize=(1.6 + 0.95 * depth, 1.0 + 1.15 * len(rows)), dpi=_DPI, layout="constrained")
    grid = figure.subplots(len(rows), depth, squeeze=False)
    for panels, (name, plane) in zip(grid, rows, strict=True):
        _table_row(figure, panels.tolist(), name, plane)
    for k, panel in enumerate(grid[0]):
        panel.set_title(f"k = {k}", fontsize=8)
    figure.suptitle(title, wrap=True)
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
    panels[0].set_ylabel(f"{name}\n{height}×{width}", fontsize=8)
    figure.colorbar(image, ax=panels, shrink=0.9, pad=0.01).ax.tick_params(labelsize=7)


def _lines(
    axes: Axes,
    epochs: Sequence[int],
    records: Sequence[Mapping[str, Any]],
    colours: Mapping[str, str],
    title: str,
) -> None:
    for key, colour in colours.items():
        label = key.split("_")[0]
        axes.plot(
            epochs, [record[key] for record in records], color=colour, label=label, marker=".", markersize=3
        )
    if len(colours) > 1:
        axes.legend(frameon=False)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
