"""Figure 4: speed against accuracy, with the published speeds and, where there are any, ours."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from lambdanets.paper.results import Results
from lambdanets.paper.schema import Cell
from lambdanets.paper.tables import table
from lambdanets.published import Value
from lambdanets.runs.figure_style import save_figure

_FAMILIES: Final = ("LambdaResNet", "ResNet-RS")
_CAPTION: Final = (
    "Accuracy is the published one everywhere: none of these networks was trained here. The paper's figure"
    " has EfficientNets as well, whose numbers it does not print."
)
_DPI: Final = 130
_COLORS: Final = ("tab:red", "tab:blue")
_MARKERS: Final = ("o", "s")


class Point(NamedTuple):
    """One network: its label, seconds of a training step, and accuracy in percent."""

    label: str
    seconds: float
    accuracy: float


# Title of a panel -> family -> its networks.
Panels = Mapping[str, Mapping[str, list[Point]]]


def draw_figure_4(results: Results, path: Path) -> str:
    """Draw the figure as PNG and return its caption."""
    panels, caption = _speed_panels(results)
    save_figure(plot(panels, caption), path)
    return caption


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
    return panels, f"{_CAPTION} Speeds on the right are ours: {origins}."


def _points(rows: list[dict[str, Cell]], all_seconds: list[Value | None]) -> dict[str, list[Point]]:
    """The networks of each family; those without a speed or an accuracy are left out."""
    families: dict[str, list[Point]] = {family: [] for family in _FAMILIES}
    for cells, seconds in zip(rows, all_seconds, strict=True):
        accuracy, label = cells["top1"].paper, cells["top1"].row.label
        if isinstance(seconds, int | float) and isinstance(accuracy, int | float):
            family = next(family for family in _FAMILIES if label.startswith(f"{family}-"))
            families[family].append(Point(label.removeprefix(f"{family}-"), seconds, accuracy))
    return families


def plot(panels: Panels, caption: str) -> Figure:
    """Plot seconds of training (logarithmic) against accuracy; panels share the axis of accuracy alone."""
    figure = Figure(figsize=(7.5 * len(panels), 6.6), dpi=_DPI, layout="constrained")
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
            # The faster family is labelled on its left, the slower on its right.
            offset, side = ((-6, 4), "right") if place == 0 else ((6, -9), "left")
            for point in ordered:
                axes.annotate(
                    point.label,
                    (point.seconds, point.accuracy),
                    xytext=offset,
                    textcoords="offset points",
                    ha=side,
                    fontsize=7,
                    color=color,
                )
        axes.set_xscale("log")
        axes.set_xlabel("seconds of training on 1024 images")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        # Room for the labels of the first and the last point.
        axes.margins(x=0.14)
        axes.legend(frameon=False, loc="lower right")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    row[0].set_ylabel("published ImageNet top-1, %")
    figure.supxlabel("\n".join(textwrap.wrap(caption, 95 * len(panels))), fontsize=8)
    return figure
