"""Figure 4: speed against accuracy, the paper's and, where there are any, our measured speeds."""

from pathlib import Path
from typing import Final

from lambdanets.paper.speed_plot import Point, speed_accuracy
from lambdanets.paper.tables.contents import table
from lambdanets.paper.tables.record import Line, Table
from lambdanets.paper.tables.results import Results
from lambdanets.runs.plots import save_figure

_FAMILIES: Final = ("LambdaResNet", "ResNet-RS")
_CAPTION: Final = (
    "Accuracy is the published one everywhere: none of these networks was trained here. The paper's figure"
    " has EfficientNets as well, whose numbers it does not print."
)


def draw(results: Results, path: Path) -> str:
    """Draw the figure as PNG.

    Returns:
        The caption: what the panels show and where ours comes from.
    """
    detailed = table(18, results)
    panels = {"published, on 8 TPUv3 cores": _families(detailed, ours=False)}
    caption = _CAPTION
    measured = _families(detailed, ours=True)
    if any(measured.values()):
        machine, origins = _origins(detailed)
        panels[f"measured, {machine}"] = {name: points for name, points in measured.items() if points}
        caption = f"{caption} Speeds on the right are ours: {origins}."
    save_figure(speed_accuracy(panels, caption), path)
    return caption


def _families(detailed: Table, *, ours: bool) -> dict[str, list[Point]]:
    return {
        family: [
            point
            for line in detailed.lines
            if line.label.startswith(f"{family}-") and (point := _point(detailed, line, family, ours=ours))
        ]
        for family in _FAMILIES
    }


def _point(detailed: Table, line: Line, family: str, *, ours: bool) -> Point | None:
    """A row as a point; None without its accuracy or speed."""
    cells = {column.key: cell for column, cell in zip(detailed.columns, line.cells, strict=True)}
    seconds = cells["step_s"].value if ours else cells["step_s"].paper
    accuracy = cells["top1"].paper
    if not isinstance(seconds, int | float) or not isinstance(accuracy, int | float):
        return None
    return Point(label=line.label.removeprefix(f"{family}-"), seconds=seconds, accuracy=accuracy)


def _origins(detailed: Table) -> tuple[str, str]:
    """Machines in words, and how every measured speed was obtained."""
    place = [column.key for column in detailed.columns].index("step_s")
    cells = [line.cells[place] for line in detailed.lines]
    hows = sorted({cell.how for cell in cells if cell.findings})
    machines = sorted({how.removeprefix("measured on ").partition(", batch")[0] for how in hows})
    return "; ".join(machines), "; ".join(hows)
