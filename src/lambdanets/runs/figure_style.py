"""What all figures have in common: one style whatever a user's is, words that fit, and dark variants."""

import io
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import Collection
from matplotlib.colors import Colormap, LinearSegmentedColormap, is_color_like, to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from PIL import Image

from lambdanets.files import replace_file
from lambdanets.text import shown

DPI: Final = 130
# Inches that a title needs beside it, and the least width of a figure that has one.
_MARGIN: Final = 0.4
MIN_WIDTH: Final = 6.0
_POINTS: Final = 72
_LINE: Final = 1.25

# Settings of windows, and of what is not drawn.
_WINDOWS: Final = re.compile(r"backend|interactive|toolbar|webagg|tk\.|timezone|savefig\.directory")
# Fonts for letters that the first one lacks, the best first: of East Asia, of emoji, of everything.
_FALLBACKS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(Noto Sans|Source Han Sans|Noto Sans Mono) ?(CJK|SC|TC|HK|JP|KR)?( \w\w)?$",
        r"WenQuanYi|Droid Sans Fallback|Hiragino|PingFang|Heiti|Sim(Hei|Sun)|Microsoft (YaHei|JhengHei)",
        r"Yu Gothic|Meiryo|MS Gothic|Malgun|Nanum|IPA.*Gothic|Takao.*Gothic|AR PL ",
        r"Noto Emoji|Symbola|Segoe UI (Emoji|Symbol)|OpenMoji",
        r"Noto Sans |Arial Unicode|GNU Unifont|Unifont|FreeS|Quivira|Code2000",
    )
)
# Letters that are images have no outline to draw.
_UNFIT: Final = re.compile(r"Colou?r|Mono|Display|UI$")
_MOST_FONTS: Final = 40

_GROUND, _INK, _SOFT = "#1c1f23", "#e8e8e4", "#8b9099"
# Colour of a light figure -> of its dark variant: the same hue, light enough for a dark ground.
_DARKENED: Final = {
    to_hex(color, keep_alpha=True): light
    for color, light in {
        "tab:blue": "#6cb6f0",
        "tab:orange": "#ff9f4a",
        "tab:green": "#6fd17a",
        "tab:red": "#ff7b72",
        "tab:purple": "#c9a4f5",
        "tab:gray": "#a9adb5",
        "black": _INK,
        "white": _GROUND,
    }.items()
}
# Colours that begin, or have their middle, at white -> the same from the dark ground on.
_DARK_MAPS: Final[Mapping[str, Colormap]] = {
    name: LinearSegmentedColormap.from_list(f"dark_{name}", colors)
    for name, colors in {
        "Reds": (_GROUND, "#7a2a2a", "#e0564a", "#ffb3a7"),
        "RdBu_r": ("#9fd0ff", "#2f7fd0", _GROUND, "#d8493c", "#ffb3a7"),
    }.items()
}


@contextmanager
def drawing() -> Iterator[None]:
    """Have the style of this library while something is drawn, also as a decorator.

    It is that of matplotlib without a user's own settings, and without mathematics in what is written: a name
    with two dollars is a name.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcParams.update(_style())
        # A letter that no font has is a box, and no reason to warn at the end of a training.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@cache
def _style() -> Any:
    """All settings but those of windows."""
    with warnings.catch_warnings():
        # Some have other names in later versions.
        warnings.simplefilter("ignore")
        defaults: Any = matplotlib.rcParamsDefault
        plain = dict(defaults)
    drawn = {name: value for name, value in plain.items() if not _WINDOWS.match(name)}
    return drawn | {"text.parse_math": False, "font.family": _families()}


@cache
def _families() -> list[str]:
    """The fonts of all texts: that of matplotlib, and for letters that it lacks what is installed."""
    names = sorted({font.name for font in fontManager.ttflist if not _UNFIT.search(font.name)})
    others = [name for pattern in _FALLBACKS for name in names if pattern.match(name)]
    return ["DejaVu Sans", *others[:_MOST_FONTS]]


@drawing()
def png(figure: Figure) -> bytes:
    """Draw a figure as the bytes of a PNG file, without a window whatever the backend is."""
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png")
    return content.getvalue()


def save_figure(figure: Figure, path: Path, who: str = "run folder") -> None:
    """Write a figure as PNG: the whole file or none."""
    replace_file(path, png(figure), who)


def dark_variant_of(path: Path) -> Path:
    """The path of the dark variant of an image file, which need not exist."""
    return path.parent / "dark" / path.name


def render_variants(figure: Figure) -> tuple[bytes, bytes]:
    """Give a figure as PNG, light and dark."""
    return _small_png(figure), _small_png(darken(figure))


def _small_png(figure: Figure) -> bytes:
    small = io.BytesIO()
    # A third of the bytes, and no difference that is seen.
    Image.open(io.BytesIO(png(figure))).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


def set_title(figure: Figure, title: str, size: int = 12) -> None:
    """Write a title above a figure in as many lines as it needs; the figure grows by all but the first."""
    width, height = figure.get_size_inches()
    folded = fold(title, width - _MARGIN, size)
    figure.set_size_inches(width, height + line_height(size) * folded.count("\n"))
    figure.suptitle(folded, fontsize=size)


def line_height(size: int) -> float:
    """Inches from a line of text to the next."""
    return _LINE * size / _POINTS


def text_width(text: str, size: int) -> float:
    """Inches of the longest line of a text."""
    return max(_points(line) for line in text.split("\n")) * size / 10 / _POINTS


def fold(text: str, width: float, size: int) -> str:
    """Break a text into lines at blanks, and words that are too long behind a sign such as / or _.

    Args:
        text: One line or several.
        width: Longest line, in inches.
        size: Of the letters, in points.
    """
    lines = []
    for line in shown(text).split("\n"):
        current = ""
        for word in line.split(" "):
            longer = f"{current} {word}" if current else word
            if text_width(longer, size) <= width:
                current = longer
                continue
            if current:
                lines.append(current)
            current = word
            while text_width(current, size) > width and len(current) > 1:
                end = _fitting(current, width, size)
                lines.append(current[:end])
                current = current[end:]
        lines.append(current)
    return "\n".join(lines)


def shorten(text: str, most: int) -> str:
    """Leave out the middle of a text that has more letters than there is room for."""
    text = " ".join(shown(text).split("\n"))
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[-end:]}"


@drawing()
def darken(figure: Figure) -> Figure:
    """Make the dark variant of a figure, the same hues on a dark ground; the figure stays as it is."""
    figure = pickle.loads(pickle.dumps(figure))  # Figures have no copy of their own.
    for axes in figure.findobj(Axes):
        # Ticks are made when they are drawn: their colours are settings of the axes.
        axes.tick_params(which="both", color=_SOFT, labelcolor=_INK)
        for image in axes.images:
            cmap = image.get_cmap()
            image.set_cmap(_DARK_MAPS.get(cmap.name, cmap))
    for artist in figure.findobj():
        for kind in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            _recolor(artist, kind)
    return figure


def _recolor(artist: Any, kind: str) -> None:
    """Give one colour of an artist, if it has it and it is a plain one, its dark variant."""
    get, change = (getattr(artist, f"{verb}_{kind}", None) for verb in ("get", "set"))
    is_mapped = isinstance(artist, ScalarMappable) and artist.get_array() is not None
    if get is None or change is None or is_mapped:
        return
    color = get()
    if isinstance(artist, Collection):
        change([_DARKENED.get(to_hex(one, keep_alpha=True), one) for one in color])
    elif is_color_like(color):
        change(_DARKENED.get(to_hex(color, keep_alpha=True), color))


def _fitting(word: str, width: float, size: int) -> int:
    """How many letters of a word fit; fewer, if it can then be broken behind a sign."""
    fits = next(end for end in range(len(word), 0, -1) if end == 1 or text_width(word[:end], size) <= width)
    signs = [found.end() for found in re.finditer(r"[/_.:-]", word[:fits])]
    return signs[-1] if signs and signs[-1] > fits // 2 else fits


@lru_cache(4096)
def _points(line: str) -> float:
    """Width of a line in points, with letters of ten points."""
    font = get_font([findfont(FontProperties(family=name)) for name in _families()])
    font.set_size(10, _POINTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        font.set_text(line)
    return float(font.get_width_height()[0]) / 64
