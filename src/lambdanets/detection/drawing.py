"""Objects drawn on an image: masks, boxes and labels that can be read at any size."""

import colorsys
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lambdanets.detection.rle import Rle, mask_library

Color: TypeAlias = tuple[int, int, int]
# Left, top, right and bottom in pixels.
Corners: TypeAlias = tuple[float, float, float, float]

# A smaller image is enlarged by a whole factor until its longer side has so many pixels, and then a label is
# legible; in a larger one lines and letters grow with it.
_MIN_DRAWN: Final = 640

# Sides of an image to the width of a line, and to the height of a letter.
_SIDE_PER_LINE: Final = 320
_SIDE_PER_LETTER: Final = 45

_MASK_OPACITY: Final = 0.45

# Hues this far apart, of a whole turn, stay distinct for the first dozen classes and beyond.
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, kw_only=True)
class DrawnObject:
    """What is drawn for one object.

    Attributes:
        box: Left, top, right and bottom in pixels of the image.
        text: Its label, such as `cat 0.98`; none where it is empty.
        color: Red, green and blue.
        mask: Run lengths of the size of the image.
    """

    box: Corners
    text: str
    color: Color
    mask: Rle | None = None


def class_color(place: int) -> Color:
    """The color of the class at a place among the categories: light and saturated, next ones far apart."""
    hue = (0.02 + place * _GOLDEN) % 1
    # Every second round of hues is paler, so that similar ones still differ.
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if place // 12 % 2 == 0 else 0.5, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_objects(
    image: Image.Image, objects: Sequence[DrawnObject], *, min_side: int = _MIN_DRAWN
) -> Image.Image:
    """Draw objects on a copy of an image, the first one uppermost.

    A small image is enlarged by a whole factor: pixels stay as they are, and lines and letters are fine
    beside them.

    Args:
        image: In red, green and blue.
        objects: Objects whose boxes may reach over its border.
        min_side: Longer side in pixels below which an image is enlarged.
    """
    factor = max(1, math.ceil(min_side / max(image.size)))
    drawn = tint_masks(image, objects)
    if factor > 1:
        drawn = drawn.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    longest = max(drawn.size)
    width = max(2, round(longest / _SIDE_PER_LINE))
    font = ImageFont.load_default(max(12, round(longest / _SIDE_PER_LETTER)))
    draw = ImageDraw.Draw(drawn)
    boxes = [_pixels(one.box, factor, drawn.size) for one in objects]
    for one, box in reversed([*zip(objects, boxes, strict=True)]):
        # A dark rim parts the line from ground of its own color.
        draw.rectangle(_grown(box, width / 4), outline="black", width=width + width // 2)
        draw.rectangle(box, outline=one.color, width=width)
    taken: list[Corners] = []
    for one, box in zip(objects, boxes, strict=True):
        if one.text:
            taken.append(_write(draw, one, box, font, taken))
    return drawn


def tint_masks(image: Image.Image, objects: Sequence[DrawnObject]) -> Image.Image:
    """Blend masks with a copy of an image, one at a time, each in the rectangle that holds it."""
    pixels = np.array(image)
    for one in reversed(objects):
        if one.mask is None:
            continue
        mask = mask_library().decode(one.mask).astype(bool)
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            continue
        area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        inside, part = mask[area], pixels[area]
        blended = (1 - _MASK_OPACITY) * part[inside] + _MASK_OPACITY * np.array(one.color)
        part[inside] = blended.round().astype(np.uint8)
    return Image.fromarray(pixels)


def _pixels(box: Corners, factor: int, size: tuple[int, int]) -> Corners:
    """A box in the drawn image, its lines inside of it and of the image."""
    left, top, right, bottom = (side * factor for side in box)
    x1, y1 = (min(max(side, 0.0), most - 1.0) for side, most in zip((left, top), size, strict=True))
    x2, y2 = (min(max(side - 1, 0.0), most - 1.0) for side, most in zip((right, bottom), size, strict=True))
    return x1, y1, max(x1, x2), max(y1, y2)


def _grown(box: Corners, margin: float) -> Corners:
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin


def _write(
    draw: ImageDraw.ImageDraw,
    one: DrawnObject,
    box: Corners,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: Sequence[Corners],
) -> Corners:
    """Write a label where no other stands, or else above its box; return the rectangle of it."""
    left, top, right, bottom = map(float, draw.textbbox((0, 0), one.text, font=font))
    margin = max(1.0, (bottom - top) // 5)
    size = (right - left + 2 * margin, bottom - top + 2 * margin)
    places = [*_places(box, size, draw.im.size)]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    place = (free or places)[0]
    draw.rectangle(place, fill=one.color)
    red, green, blue = one.color
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    start = (place[0] + margin - left, place[1] + margin - top)
    draw.text(start, one.text, fill="black" if is_light else "white", font=font)
    return place


def _places(box: Corners, size: tuple[float, float], image: tuple[int, int]) -> Iterator[Corners]:
    """Propose places for a label: above the box, below it, inside at the top; moved into the image."""
    (width, height), (x1, y1, x2, y2) = size, box
    for x, y in ((x1, y1 - height), (x1, y2 + 1), (x1, y1), (x2 - width, y1 - height), (x2 - width, y2 + 1)):
        left, top = max(0.0, min(x, image[0] - width)), max(0.0, min(y, image[1] - height))
        yield left, top, left + width - 1, top + height - 1


def _overlap(one: Corners, other: Corners) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
