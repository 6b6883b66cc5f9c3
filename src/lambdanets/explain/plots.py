"""The figures of one lambda layer: what its keys read where, which context counts, and which pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lambdanets.errors import ArgumentError
from lambdanets.runs.figure_style import DPI, MIN_WIDTH, drawing, fold, line_height, set_title

_SIGNED: Final = "RdBu_r"
_STRENGTH: Final = "magma"
# The strongest pixel over the faintest one that has a colour of its own.
_DYNAMIC_RANGE: Final = 300
# Inches of the longer side of a map, and the least of a panel, whose title and ticks need room.
_SIDE: Final = 2.0
_MIN_SIDES: Final = (0.5, 1.3)
# Least height of a figure with a colour bar, for the words beside it.
_MIN_HEIGHT: Final = 3.6
# Points of the letters above a panel and above a figure; inches of the ticks beside a panel.
_PANEL_TITLE, _TITLE = 8, 10
_TICKS: Final = 0.3
# Inches of a colour bar with its words, beside a panel.
_BAR: Final = 1.0
# Doublings above and below the mean at which the colours of a softmax end at the latest.
_MOST_DOUBLINGS: Final = 3

Plane = Float[np.ndarray, "_ _"]
ImageArray = Float[np.ndarray, "_ _"] | Float[np.ndarray, "_ _ 3"]


class Panel(NamedTuple):
    """One map of a figure, with the title above it."""

    title: str
    values: Plane


class PixelPanel(NamedTuple):
    """How strongly each pixel moves the vector at one position of a map, which is framed.

    Attributes:
        title: Above the panel.
        values: One number for each pixel.
        position: Row and column on the map, from zero.
        size: Height and width of the map.
    """

    title: str
    values: Plane
    position: tuple[int, int]
    size: tuple[int, int]


@drawing()
def key_figure(panels: Sequence[Panel], title: str, unit: str) -> Figure:
    """Draw what each key channel reads at each relative offset, with the query in the middle.

    Paper: §3.1 (position lambdas).

    Args:
        panels: R of one channel each, its sides odd. One colour scale for all, symmetric about zero.
        title: Above the panels.
        unit: Label of the colour scale.
    """
    figure, grid = _panel_grid(panels, title)
    norm = _symmetric([panel.values for panel in panels])
    for axes, panel in zip(grid, panels, strict=True):
        rows, columns = panel.values.shape
        extent = (-columns / 2, columns / 2, rows / 2, -rows / 2)
        mappable = axes.imshow(panel.values, cmap=_SIGNED, norm=norm, extent=extent)
        axes.plot(0, 0, "k+", markersize=6, markeredgewidth=0.8)
        for set_ticks, reach, other in (
            (axes.set_xticks, columns // 2, rows // 2),
            (axes.set_yticks, rows // 2, columns // 2),
        ):
            # A narrow map has no room for numbers at its ends.
            set_ticks([-reach, 0, reach] if reach and 4 * reach >= other else [0])
    figure.colorbar(mappable, ax=grid, label=unit, pad=_bar_pad(figure, panels[0]), aspect=30)
    figure.supxlabel("columns from the query", fontsize=9)
    figure.supylabel("rows from the query", fontsize=9)
    return figure


@drawing()
def content_figure(panels: Sequence[Panel], image: ImageArray, title: str, softmax: bool) -> Figure:
    """Draw over the image what each key channel takes from it into the content lambda.

    The image is the brightness, the weight the colour. Neutral weights have none: the mean of the map for a
    softmax, else zero.

    Paper: §3.1 (content lambda); Table 11.

    Args:
        panels: Normalised keys of one channel each, over the layer's map.
        image: As the network sees it, between 0 and 1.
        title: Above the panels.
        softmax: Whether weights are positive and sum to one.
    """
    figure, grid = _panel_grid(panels, title)
    maps = [panel.values for panel in panels]
    if softmax:
        # Over their mean, as powers of two.
        maps = [np.log2(np.maximum(plane * plane.size, 2.0**-_MOST_DOUBLINGS)) for plane in maps]
    norm = _symmetric(maps)
    if softmax:
        reach = min(max(math.ceil(norm.vmax or 0), 1), _MOST_DOUBLINGS)
        norm = Normalize(-reach, reach)
    mappable = ScalarMappable(norm, _SIGNED)
    grey = image if image.ndim == 2 else image.mean(-1)
    for axes, plane in zip(grid, maps, strict=True):
        # The finer of the two grids. Dark parts stay light enough for their colour to be seen.
        sides = [max(pair) for pair in zip(plane.shape, grey.shape, strict=True)]
        brightness = 0.5 + 0.5 * _upsampled(grey, sides)[..., None]
        colour = mappable.to_rgba(_upsampled(plane, sides))[..., :3]
        axes.imshow(colour * brightness, extent=_extent(plane.shape), interpolation="nearest")
    label = "weight $\\bar{k}$, as a multiple\nof the mean $1/m$" if softmax else r"weight $\bar{k}$"
    bar = figure.colorbar(mappable, ax=grid, pad=_bar_pad(figure, panels[0]), aspect=30)
    bar.set_label(label, parse_math=True)
    if softmax:
        steps = range(-reach, reach + 1)
        bar.set_ticks(list(steps), labels=[f"{2**step}" if step >= 0 else f"1/{2**-step}" for step in steps])
    return figure


@drawing()
def field_figure(
    fields: Sequence[PixelPanel],
    rows: Mapping[str, Sequence[Panel]],
    image: ImageArray,
    position: tuple[int, int],
    title: str,
) -> Figure:
    """Draw what one query position sees: above, of the image; below, of the layer's context, head by head.

    Paper: §3.1.

    Args:
        fields: How strongly each pixel moves the network at the position, on one map or another.
        rows: Name -> weights of the context, one panel a head. Each row has a colour scale of its own,
            symmetric about zero.
        image: As the network sees it, between 0 and 1.
        position: Row and column of the query on the layer's map, from zero.
        title: Above all.
    """
    if not rows:
        raise ArgumentError("rows must hold at least one, got none.")
    heads = next(iter(rows.values()))
    size = heads[0].values.shape
    height, width = _inches(size)
    # Bars stand beside each panel above, and beside the last one below.
    sides = max(_BAR + (width + 0.35) * len(heads), (width + _BAR) * (1 + len(fields)))
    names = [*(panel.title for panels in rows.values() for panel in panels)]
    row_height = max(height, 1.3) + 2 * _TICKS + line_height(_PANEL_TITLE) * _most_lines(names, width)
    figure = Figure(
        figsize=(max(0.8 + sides, MIN_WIDTH), 0.6 + row_height * (len(rows) + 1.3)),
        dpi=DPI,
        layout="constrained",
    )
    set_title(figure, title, _TITLE)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.3, len(rows)))[:, 0]
    widest = max(width, figure.get_size_inches()[0] / (1 + len(fields)) - _BAR - _TICKS)
    first, *others = np.ravel(above.subplots(1, 1 + len(fields)))
    # All in steps of the layer's map.
    pixels = {"extent": _extent(size), "interpolation": "nearest"}
    first.imshow(image, cmap="gray", vmin=0, vmax=1, **pixels)
    _finish(first, "the image, and the query's position", widest, size)
    _frame(first, position, size, size)
    for axes, field in zip(others, fields, strict=True):
        top = float(field.values.max()) or 1.0
        logarithmic = LogNorm(top / _DYNAMIC_RANGE, top, clip=True)
        mappable = axes.imshow(field.values, cmap=_STRENGTH, norm=logarithmic, **pixels)
        _finish(axes, field.title, widest, size)
        _frame(axes, field.position, field.size, size)
        _colour_bar(axes, mappable, r"$\|\,\partial \|y\|\, /\, \partial\,$pixel$\,\|$, log scale")
    grid = below.subplots(len(rows), len(heads), squeeze=False)
    for row, (name, panels) in zip(grid, rows.items(), strict=True):
        norm = _symmetric([panel.values for panel in panels])
        for axes, panel in zip(row, panels, strict=True):
            mappable = axes.imshow(panel.values, cmap=_SIGNED, norm=norm)
            _finish(axes, panel.title, width, size)
            _frame(axes, position, size, size)
        row[0].set_ylabel(name, fontsize=9, parse_math=True)
        _colour_bar(row[-1], mappable, "weight of the value")
    return figure


def _panel_grid(panels: Sequence[Panel], title: str) -> tuple[Figure, list[Axes]]:
    """Titled axes in rows of about equal length, about twice as many across as down."""
    if not panels:
        raise ArgumentError("panels must hold at least one, got none.")
    across = math.ceil(math.sqrt(2 * len(panels)))
    down = math.ceil(len(panels) / across)
    height, width = _inches(panels[0].values.shape)
    num_lines = _most_lines([panel.title for panel in panels], width)
    row_height = height + _TICKS + line_height(_PANEL_TITLE) * num_lines
    sides = (1.7 + (width + 0.3) * across, 0.8 + row_height * down)
    figure = Figure(
        figsize=(max(sides[0], MIN_WIDTH), max(sides[1], _MIN_HEIGHT)), dpi=DPI, layout="constrained"
    )
    set_title(figure, title, _TITLE)
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        _finish(axes, panel.title, width, panel.values.shape)
    return figure, grid[: len(panels)]


def _inches(size: tuple[int, ...]) -> tuple[float, float]:
    """Height and width of a map's panel."""
    height, width = size
    longer = _SIDE / max(height, width)
    return max(longer * height, _MIN_SIDES[0]), max(longer * width, _MIN_SIDES[1])


def _most_lines(titles: Sequence[str], width: float) -> int:
    return max(fold(title, width, _PANEL_TITLE).count("\n") + 1 for title in titles)


def _finish(axes: Axes, title: str, width: float, size: tuple[int, ...]) -> None:
    axes.set_title(fold(title, width, _PANEL_TITLE), fontsize=_PANEL_TITLE)
    for set_ticks, side in ((axes.set_yticks, size[0]), (axes.set_xticks, size[1])):
        # As many numbers as there is room for.
        most = min(4, max(1, int(_SIDE * side / max(size) / 0.4)))
        set_ticks(range(0, side, math.ceil(side / most)))
    axes.tick_params(labelsize=7)


def _frame(axes: Axes, position: tuple[int, int], size: tuple[int, ...], drawn: tuple[int, ...]) -> None:
    """Frame a position of one map, in the steps of another that is drawn."""
    height, width = (ours / theirs for ours, theirs in zip(drawn, size, strict=True))
    corner = (position[1] * width - 0.5, position[0] * height - 0.5)
    for colour, line in (("black", 2.4), ("lime", 1.2)):
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line))


def _colour_bar(axes: Axes, mappable: ScalarMappable, label: str) -> None:
    """A colour bar as high as the panel it stands beside, or as its numbers need."""
    rows, columns = (abs(float(np.diff(limits)[0])) for limits in (axes.get_ylim(), axes.get_xlim()))
    height = max(1.0, 0.8 / (_SIDE * min(1, rows / columns)))
    inset = axes.inset_axes((1.03, 0.5 - height / 2, 0.05, height))
    axes.figure.colorbar(mappable, cax=inset, format="{x:g}").set_label(label, fontsize=8, parse_math=True)
    inset.tick_params(labelsize=7)


def _bar_pad(figure: Figure, panel: Panel) -> float:
    """Space before a colour bar, as a fraction of the figure: titles are wider than narrow maps."""
    rows, columns = panel.values.shape
    beside = (_inches((rows, columns))[1] - _SIDE * min(1, columns / rows)) / 2
    return 0.01 + float(beside / figure.get_size_inches()[0])


def _extent(size: tuple[int, ...]) -> tuple[float, float, float, float]:
    height, width = size
    return -0.5, width - 0.5, height - 0.5, -0.5


def _upsampled(plane: Plane, sides: Sequence[int]) -> Plane:
    """Each element repeated, to a finer grid."""
    rows, columns = (np.arange(side) * old // side for side, old in zip(sides, plane.shape, strict=True))
    finer: Plane = plane[rows][:, columns]
    return finer


def _symmetric(maps: Sequence[Plane]) -> Normalize:
    limit = max(float(np.abs(plane).max()) for plane in maps) or 1.0
    return Normalize(-limit, limit)
