"""Images of one lambda layer: what its keys read where, which context counts, and what the image moves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from lambdanets.errors import ArgumentError

_DPI: Final = 130
_SIGNED: Final = "RdBu_r"
_STRENGTH: Final = "magma"
# How much less than the strongest pixel the faintest one is that has a colour.
_FAINTEST: Final = 300
# Inches of the longer side of a map.
_SIDE: Final = 2.0
# Doublings above and below the mean at which the colours of a softmax end at the latest.
_MOST_DOUBLINGS: Final = 3

Plane = Float[np.ndarray, "_ _"]
ImageArray = Float[np.ndarray, "_ _"] | Float[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One map of a figure.

    Attributes:
        values: What is coloured.
        title: Above it.
    """

    values: Plane
    title: str


@dataclass(frozen=True, kw_only=True)
class PixelPanel(Panel):
    """What each pixel does to the vector at one position of a map.

    Attributes:
        position: Row and column on that map, from zero; framed.
        size: Of that map.
    """

    position: tuple[int, int]
    size: tuple[int, int]


def key_figure(panels: Sequence[Panel], title: str, unit: str) -> Figure:
    """Draw what each key channel reads at each relative offset, with the query in the middle.

    Paper: §3.1 (position lambdas).

    Args:
        panels: R of one channel each, its sides odd. One scale of colours for all, symmetric about zero.
        title: Above the panels.
        unit: Of the colours.
    """
    figure, axes = _grid("key_figure", panels, title)
    norm = _about_zero([panel.values for panel in panels])
    for one, panel in zip(axes, panels, strict=True):
        rows, columns = panel.values.shape
        extent = (-columns / 2, columns / 2, rows / 2, -rows / 2)
        mappable = one.imshow(panel.values, cmap=_SIGNED, norm=norm, extent=extent)
        one.plot(0, 0, "k+", markersize=6, markeredgewidth=0.8)
        one.set_xticks(sorted({-(columns // 2), 0, columns // 2}))
        one.set_yticks(sorted({-(rows // 2), 0, rows // 2}))
    figure.colorbar(mappable, ax=axes, label=unit, pad=0.01, aspect=30)
    figure.supxlabel("columns from the query", fontsize=9)
    figure.supylabel("rows from the query", fontsize=9)
    return figure


def content_figure(panels: Sequence[Panel], image: ImageArray, title: str, softmax: bool) -> Figure:
    """Draw over the image what each key channel takes of it into the content lambda.

    The image is the brightness, the weight the colour. Where the weight says nothing there is none: for a
    softmax where it is the mean of the map, else where it is zero.

    Paper: §3.1 (content lambda); Table 11.

    Args:
        panels: Normalised keys of one channel each, over the layer's map.
        image: As the network sees it, between 0 and 1.
        title: Above the panels.
        softmax: Whether weights are positive and sum to one.
    """
    figure, axes = _grid("content_figure", panels, title)
    colored = [_doublings(panel.values) if softmax else panel.values for panel in panels]
    norm = _about_zero(colored)
    if softmax:
        reach = min(max(int(np.ceil(norm.vmax or 0)), 1), _MOST_DOUBLINGS)
        norm = Normalize(-reach, reach)
    colours = ScalarMappable(norm, _SIGNED)
    for one, plane in zip(axes, colored, strict=True):
        _over(one, colours, plane, image if image.ndim == 2 else image.mean(-1))
    label = r"weight $\bar{k}$, as a multiple of the mean $1/m$" if softmax else r"weight $\bar{k}$"
    bar = figure.colorbar(colours, ax=axes, label=label, pad=0.01, aspect=30)
    if softmax:
        steps = range(-reach, reach + 1)
        bar.set_ticks(list(steps), labels=[f"{2**step}" if step >= 0 else f"1/{2**-step}" for step in steps])
    return figure


def field_figure(
    fields: Sequence[PixelPanel],
    rows: Mapping[str, Sequence[Panel]],
    image: ImageArray,
    position: tuple[int, int],
    title: str,
) -> Figure:
    """Draw what one query position sees: above of the image, below of the layer's context, head by head.

    Paper: §3.1.

    Args:
        fields: How strongly each pixel moves the network at the position, on one map or another.
        rows: Name -> weights of the context, one panel a head. Each row has a scale of its own, symmetric
            about zero.
        image: As the network sees it, between 0 and 1.
        position: Row and column of the query on the layer's map, from zero.
        title: Above all.
    """
    if not rows:
        raise ArgumentError("field_figure: rows must hold at least one, got none.")
    first = next(iter(rows.values()))
    across = max(len(first), 1 + len(fields))
    height, width = _inches(first[0].values.shape)
    figure = Figure(
        figsize=(1.5 + (width + 0.35) * across, 0.9 + (height + 0.6) * (len(rows) + 1.3)),
        dpi=_DPI,
        layout="constrained",
    )
    figure.suptitle(title, fontsize=10)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.3, len(rows)))[:, 0]
    _pixel_row(list(np.ravel(above.subplots(1, 1 + len(fields)))), fields, image, position, first)
    grid = below.subplots(len(rows), len(first), squeeze=False)
    for axes, (name, panels) in zip(grid, rows.items(), strict=True):
        _head_row(list(axes), name, panels, position)
    return figure


def _pixel_row(
    axes: Sequence[Axes],
    fields: Sequence[PixelPanel],
    image: ImageArray,
    position: tuple[int, int],
    heads: Sequence[Panel],
) -> None:
    """The image, and what of it moves the vector at the position; all in steps of the layer's map."""
    size = heads[0].values.shape
    axes[0].imshow(image, cmap="gray", vmin=0, vmax=1, extent=_extent(size), interpolation="nearest")
    axes[0].set_title("the image, and the query's position", fontsize=8)
    for one, panel in zip(axes[1:], fields, strict=True):
        top = float(panel.values.max()) or 1.0
        norm = LogNorm(top / _FAINTEST, top, clip=True)
        mappable = one.imshow(
            panel.values, cmap=_STRENGTH, norm=norm, extent=_extent(size), interpolation="nearest"
        )
        one.set_title(panel.title, fontsize=8)
        _mark(one, panel.position, panel.size, size)
        _bar(one, mappable, r"$\|\,\partial \|y\|\, /\, \partial\,$pixel$\,\|$, log scale")
    _mark(axes[0], position, size, size)
    for one in axes:
        _ticks(one)


def _head_row(axes: Sequence[Axes], name: str, panels: Sequence[Panel], position: tuple[int, int]) -> None:
    norm = _about_zero([panel.values for panel in panels])
    for one, panel in zip(axes, panels, strict=True):
        mappable = one.imshow(panel.values, cmap=_SIGNED, norm=norm)
        one.set_title(panel.title, fontsize=8)
        _ticks(one)
        _mark(one, position, panel.values.shape, panel.values.shape)
    axes[0].set_ylabel(name, fontsize=9)
    _bar(axes[-1], mappable, "weight of the value")


def _grid(who: str, panels: Sequence[Panel], title: str) -> tuple[Figure, list[Axes]]:
    """Titled axes in rows of about equal length, about twice as many across as down."""
    if not panels:
        raise ArgumentError(f"{who}: panels must hold at least one, got none.")
    across = math.ceil(math.sqrt(2 * len(panels)))
    down = math.ceil(len(panels) / across)
    height, width = _inches(panels[0].values.shape)
    figure = Figure(
        figsize=(1.7 + (width + 0.2) * across, 0.9 + (height + 0.3) * down), dpi=_DPI, layout="constrained"
    )
    figure.suptitle(title, fontsize=10)
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for one in axes[len(panels) :]:
        one.remove()
    for one, panel in zip(axes, panels, strict=False):
        one.set_title(panel.title, fontsize=8)
        _ticks(one)
    return figure, axes[: len(panels)]


def _inches(size: tuple[int, ...]) -> tuple[float, float]:
    """Height and width of a map's panel."""
    height, width = size
    return _SIDE * min(1, height / width), max(_SIDE * min(1, width / height), 1.0)


def _over(axes: Axes, colours: ScalarMappable, plane: Plane, grey: Plane) -> None:
    """Colours of a map times the brightness of the image under it, in the finer of the two grids."""
    sides = [max(pair) for pair in zip(plane.shape, grey.shape, strict=True)]
    # Dark places stay light enough for their colour to be seen.
    brightness = 0.5 + 0.5 * _spread(grey, sides)[..., None]
    colour = colours.to_rgba(_spread(plane, sides))[..., :3]
    axes.imshow(colour * brightness, extent=_extent(plane.shape), interpolation="nearest")


def _spread(plane: Plane, sides: Sequence[int]) -> Plane:
    """Each element repeated, to a finer grid."""
    rows, columns = (
        np.arange(side) * length // side for side, length in zip(sides, plane.shape, strict=True)
    )
    spread: Plane = plane[rows][:, columns]
    return spread


def _extent(size: tuple[int, ...]) -> tuple[float, float, float, float]:
    height, width = size
    return -0.5, width - 0.5, height - 0.5, -0.5


def _ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=7)


def _bar(axes: Axes, mappable: ScalarMappable, label: str) -> None:
    """A colour bar as high as the panel it stands beside."""
    place = axes.inset_axes((1.03, 0, 0.05, 1))
    bar = axes.figure.colorbar(mappable, cax=place)
    bar.set_label(label, fontsize=8)
    place.tick_params(labelsize=7)


def _mark(axes: Axes, position: tuple[int, int], size: tuple[int, ...], drawn: tuple[int, ...]) -> None:
    """A frame around a position of one map, in the steps of another that is drawn."""
    height, width = (ours / theirs for ours, theirs in zip(drawn, size, strict=True))
    corner = (position[1] * width - 0.5, position[0] * height - 0.5)
    for colour, line in (("black", 2.4), ("lime", 1.2)):
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line))


def _about_zero(colored: Sequence[Plane]) -> Normalize:
    limit = max(float(np.abs(plane).max()) for plane in colored) or 1.0
    return Normalize(-limit, limit)


def _doublings(weights: Plane) -> Plane:
    """Weights over their mean, as powers of two."""
    over_mean = weights * weights.size
    powers: Plane = np.log2(np.maximum(over_mean, 2.0**-_MOST_DOUBLINGS))
    return powers
