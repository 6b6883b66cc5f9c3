"""What a reader needs of a figure: words that are whole, apart from one another, and not on the lines."""

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Text

# Pixels by which boxes of words may touch: there is air around the letters.
SLACK = 2.0


def shown_words(figure):
    """Text -> box in pixels, of all words that are drawn, as (artist, box) pairs."""
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    hidden = set(map(id, _hidden(figure)))
    words = {id(artist): artist for artist in figure.findobj(Text)}
    return [
        (artist, artist.get_window_extent(renderer))
        for artist in words.values()
        if artist.get_visible() and artist.get_text().strip() and id(artist) not in hidden
    ]


def assert_readable(figure):
    """Every word lies within the figure, no two cover each other, and no legend stands on a line."""
    words = shown_words(figure)
    width, height = figure.bbox.size
    for artist, box in words:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{artist.get_text()!r} leaves the figure: {box}"
    for (one, left), (other, right) in combinations(words, 2):
        across = min(left.x1, right.x1) - max(left.x0, right.x0)
        down = min(left.y1, right.y1) - max(left.y0, right.y0)
        assert min(across, down) <= SLACK, f"{one.get_text()!r} and {other.get_text()!r} overlap"
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            box = legend.get_window_extent()
            for line in axes.lines:
                assert not _crosses(line, box), f"the legend covers {line.get_label()!r}"


def _hidden(figure):
    """The labels of ticks that are there but not drawn: outside of the limits, or of axes that are off."""
    # Insets, such as colour bars, are no axes of the figure.
    for axes in figure.findobj(Axes):
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            is_shown = axes.axison and axes.get_visible() and axis.get_visible()
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not (is_shown and min(limits) - 1e-9 <= tick.get_loc() <= max(limits) + 1e-9):
                    yield from (tick.label1, tick.label2)


def _crosses(line: Line2D, box):
    """Whether any part of a drawn line lies in a box, by many points of each of its segments."""
    points = line.get_transform().transform(line.get_xydata())
    if len(points) > 1:
        steps = np.linspace(0, 1, 50)[:, None, None]
        points = (points[None, :-1] * (1 - steps) + points[None, 1:] * steps).reshape(-1, 2)
    x, y = points.T
    return bool(((x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)).any())
