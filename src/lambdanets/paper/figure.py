"""Figure 4: speed against accuracy, with the published speeds and, where there are any, ours."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox, BboxBase

from lambdanets.paper.results import Result, Results
from lambdanets.paper.schema import Cell
from lambdanets.paper.tables import table
from lambdanets.published import Value
from lambdanets.runs.figure_style import DPI, drawing, fold, line_height, text_width
from lambdanets.runs.plots import finish_axes

_FAMILIES: Final = ("LambdaResNet", "ResNet-RS")
_CAPTION: Final = (
    "Accuracy is the published one everywhere: none of these networks was trained here. The paper's figure"
    " has EfficientNets as well, whose numbers it does not print."
)
_PANEL_WIDTH: Final = 7.5
# Points of the letters at a point, and to the inch.
_LABEL_SIZE, _POINTS = 7, 72
# Sides of a point where its label may stand, the best first.
_SIDES: Final = [(-1, 1), (-1, 0), (0, 1), (1, -1), (1, 0), (0, -1), (1, 1), (-1, -1)]
_COLORS: Final = ("tab:red", "tab:blue")
_MARKERS: Final = ("o", "s")


class Point(NamedTuple):
    """One network: its label, seconds of a training step, accuracy in percent, fastest and slowest step."""

    label: str
    seconds: float
    accuracy: float
    spread: tuple[float, float] | None = None


# Title of a panel -> family -> its networks.
Panels = Mapping[str, Mapping[str, list[Point]]]


def draw_figure_4(results: Results) -> tuple[Figure, str]:
    """Draw the figure, and write its caption."""
    panels, caption = _speed_panels(results)
    return plot(panels, caption), caption


def _speed_panels(results: Results) -> tuple[Panels, str]:
    """Collect the points of Table 18 and write the caption: what is shown, and where ours comes from."""
    rows = [{cell.column.key: cell for cell in cells} for _, cells in table(18, results).rows]
    panels = {"published, on 8 TPUv3 cores": _points(rows, [cells["step_s"].paper for cells in rows])}
    measured = _points(rows, [cells["step_s"].value for cells in rows])
    if not any(measured.values()):
        return panels, _CAPTION
    ours = [cells["step_s"].results[0] for cells in rows if cells["step_s"].results]
    machines = "; ".join(sorted({result.machine for result in ours}))
    panels[f"measured, {machines}"] = {family: points for family, points in measured.items() if points}
    origins = "; ".join(sorted({result.how for result in ours}))
    spread = "thin lines lead from the fastest to the slowest repetition"
    return panels, f"{_CAPTION} Speeds on the right are ours: {origins}; {spread}."


def _points(rows: list[dict[str, Cell]], all_seconds: list[Value | None]) -> dict[str, list[Point]]:
    """The networks of each family; those without a speed or an accuracy are left out."""
    families: dict[str, list[Point]] = {family: [] for family in _FAMILIES}
    for cells, seconds in zip(rows, all_seconds, strict=True):
        accuracy, label = cells["top1"].paper, cells["top1"].row.label
        if isinstance(seconds, int | float) and isinstance(accuracy, int | float):
            family = next(family for family in _FAMILIES if label.startswith(f"{family}-"))
            results = cells["step_s"].results
            spread = _spread(results[0]) if results and seconds == results[0].value else None
            families[family].append(Point(label.removeprefix(f"{family}-"), seconds, accuracy, spread))
    return families


def _spread(result: Result) -> tuple[float, float] | None:
    """The fastest and the slowest repetition of a measurement, in the unit of its value, if it has them."""
    if not {"fastest", "slowest", "seconds"} <= result.settings.keys():
        return None
    factor = float(result.value) / float(result.settings["seconds"])
    return factor * float(result.settings["fastest"]), factor * float(result.settings["slowest"])


@drawing()
def plot(panels: Panels, caption: str) -> Figure:
    """Plot seconds of training (logarithmic) against accuracy; panels share the axis of accuracy alone.

    A thin line through a point leads from the fastest to the slowest repetition.
    """
    figure = Figure(figsize=(_PANEL_WIDTH * len(panels), 6.6), dpi=DPI, layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, families) in zip(row, panels.items(), strict=True):
        for place, (family, points) in enumerate(families.items()):
            color, ordered = _COLORS[place], sorted(points, key=lambda point: point.seconds)
            axes.plot(
                [point.seconds for point in ordered],
                [point.accuracy for point in ordered],
                color=color,
                marker=_MARKERS[place],
                markersize=5,
                label=family,
            )
            for point in ordered:
                if point.spread:
                    axes.hlines(point.accuracy, *point.spread, color=color, linewidth=1, alpha=0.6)
        axes.set_xscale("log")
        axes.set_xlabel("seconds of training on 1024 images")
        finish_axes(axes, fold(title, _PANEL_WIDTH - 1, 12), with_legend=True)
        # Room for the labels of the first and the last point.
        axes.margins(x=0.14, y=0.07)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    row[0].set_ylabel("published ImageNet top-1, %")
    figure.supxlabel(fold(caption, _PANEL_WIDTH * len(panels) - 0.4, 8), fontsize=8)
    # Labels are put where there is room, which is known once all else has its place.
    figure.draw_without_rendering()
    for axes, families in zip(row, panels.values(), strict=True):
        _label_points(axes, families)
    return figure


def _label_points(axes: Axes, families: Mapping[str, list[Point]]) -> None:
    """Write each point's label beside it: on no other label, off the lines where that can be."""
    spreads = [one.get_segments()[0] for one in axes.collections if isinstance(one, LineCollection)]
    lines = [axes.transData.transform(line) for line in (*(one.get_xydata() for one in axes.lines), *spreads)]
    steps = np.linspace(0, 1, 40)[:, None, None]
    drawn = np.concatenate(
        [(line[None, :-1] * (1 - steps) + line[None, 1:] * steps).reshape(-1, 2) for line in lines] + lines
    )
    taken: list[Bbox] = []
    for place, points in enumerate(families.values()):
        # The faster family is labelled on its left, the slower on its right, where there is room.
        sides = _SIDES if place == 0 else [(-x, -y) for x, y in _SIDES]
        for point in points:
            center = axes.transData.transform((point.seconds, point.accuracy))
            boxes = [
                _label_box(point.label, center, side, distance)
                for distance in (5, 12, 24, 40)
                for side in sides
            ]
            box = min(boxes, key=lambda box: _crowd(box, axes.bbox, taken, drawn))
            taken.append(box)
            axes.annotate(
                point.label,
                (point.seconds, point.accuracy),
                xytext=tuple((box.min - center) * _POINTS / DPI),
                textcoords="offset points",
                va="bottom",
                fontsize=_LABEL_SIZE,
                color=_COLORS[place],
                in_layout=False,
            )


def _label_box(label: str, center: np.ndarray, side: tuple[int, int], distance: int) -> Bbox:
    """The pixels of a label at so many points from a point, on one of its sides."""
    size = np.array([text_width(label, _LABEL_SIZE), line_height(_LABEL_SIZE)]) * DPI
    toward: np.ndarray = np.array(side, dtype=float)
    corner = center + toward * distance * DPI / _POINTS + (toward - 1) / 2 * size
    return Bbox([corner, corner + size])


def _crowd(box: Bbox, frame: BboxBase, taken: Sequence[Bbox], drawn: np.ndarray) -> int:
    """How much is where a label would stand; another label, or the edge, is worse than any line."""
    inside = ((drawn > np.array(box.min) - 2) & (drawn < np.array(box.max) + 2)).all(-1).sum()
    is_out = box.x0 < frame.x0 or box.y0 < frame.y0 or box.x1 > frame.x1 or box.y1 > frame.y1
    overlaps = sum(box.padded(5).overlaps(other) for other in taken)
    return int(inside + 10_000 * (overlaps + is_out))
