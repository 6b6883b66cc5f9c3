"""An image of speed against accuracy: panels with families of networks."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

_DPI: Final = 130
_COLOURS: Final = ("tab:red", "tab:blue", "tab:green")
_MARKERS: Final = ("o", "s", "^")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network.

    Attributes:
        label: Beside the point, such as `152 at 224`.
        seconds: Of a training step.
        accuracy: In percent.
    """

    label: str
    seconds: float
    accuracy: float


def speed_accuracy(panels: Mapping[str, Mapping[str, Sequence[Point]]], caption: str) -> Figure:
    """Draw seconds of training (logarithmic) against accuracy.

    Args:
        panels: Title -> family -> its networks. Each panel has seconds of its own; accuracy is one axis.
        caption: Below the panels.
    """
    figure = Figure(figsize=(7.5 * len(panels), 6.6), dpi=_DPI, layout="constrained")
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, families) in zip(row, panels.items(), strict=True):
        for style, (family, points) in enumerate(families.items()):
            _family(axes, family, points, style)
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


def _family(axes: Axes, family: str, points: Sequence[Point], style: int) -> None:
    ordered = sorted(points, key=lambda point: point.seconds)
    axes.plot(
        [point.seconds for point in ordered],
        [point.accuracy for point in ordered],
        color=_COLOURS[style],
        marker=_MARKERS[style],
        markersize=5,
        label=family,
    )
    # The faster family is labelled on its left, the slower on its right.
    offset, side = ((-6, 4), "right") if style == 0 else ((6, -9), "left")
    for point in ordered:
        axes.annotate(
            point.label,
            (point.seconds, point.accuracy),
            xytext=offset,
            textcoords="offset points",
            ha=side,
            fontsize=7,
            color=_COLOURS[style],
        )
