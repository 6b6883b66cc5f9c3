"""What stands in a scene beside its objects: textured backgrounds, and marks that are no digits."""

import math
from typing import Final

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from lambdanets.detection.handwriting import Plane, finish_shape

# Letters that look like no digit, as strokes through points of a unit square, "x y".
_LETTERS: Final = {
    "A": ((0, 1, 0.5, 0, 1, 1), (0.22, 0.62, 0.78, 0.62)),
    "E": ((0.8, 0, 0.1, 0, 0.1, 1, 0.8, 1), (0.1, 0.5, 0.65, 0.5)),
    "F": ((0.8, 0, 0.1, 0, 0.1, 1), (0.1, 0.5, 0.65, 0.5)),
    "H": ((0.1, 0, 0.1, 1), (0.9, 0, 0.9, 1), (0.1, 0.5, 0.9, 0.5)),
    "K": ((0.1, 0, 0.1, 1), (0.85, 0, 0.1, 0.55, 0.9, 1)),
    "M": ((0.05, 1, 0.1, 0, 0.5, 0.6, 0.9, 0, 0.95, 1),),
    "N": ((0.1, 1, 0.1, 0, 0.9, 1, 0.9, 0),),
    "R": ((0.1, 1, 0.1, 0, 0.7, 0.05, 0.75, 0.35, 0.15, 0.5, 0.85, 1),),
    "W": ((0, 0, 0.25, 1, 0.5, 0.4, 0.75, 1, 1, 0),),
    "X": ((0.05, 0, 0.95, 1), (0.95, 0, 0.05, 1)),
    "Y": ((0, 0, 0.5, 0.5, 1, 0), (0.5, 0.5, 0.5, 1)),
    "+": ((0.5, 0, 0.5, 1), (0, 0.5, 1, 0.5)),
    "*": ((0.5, 0, 0.5, 1), (0, 0.2, 1, 0.8), (0, 0.8, 1, 0.2)),
}
# Drawn pixels to a pixel, along each axis.
_FINE: Final = 3


def draw_background(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size 3"]:
    """Draw a textured background, between 0 and 255: a gradient, clouds, and at times a regular pattern.

    Args:
        rng: Decides all of it.
        size: Side in pixels.
    """
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    base = rng.uniform(30, 225, 3)
    tilt = rng.normal(0, 22, 3) * rng.random()
    angle = rng.uniform(0, 2 * math.pi)
    ramp = math.cos(angle) * axis[None] + math.sin(angle) * axis[:, None]  # size size
    canvas = (base + ramp[..., None] * tilt).astype(np.float32)
    for cells in rng.choice([3, 6, 12, 24, 48], 2, replace=False):
        strength = rng.uniform(0, 16)
        canvas += _clouds(rng, size, int(cells), strength)
    pattern = rng.random()
    if pattern < 0.5:
        color = rng.normal(0, 14, 3).astype(np.float32)
        period = rng.uniform(5, 40)
        across = (math.cos(2 * angle) * axis[None] + math.sin(2 * angle) * axis[:, None]) * size / 2
        waves = np.sin(across * (2 * math.pi / period))
        if pattern < 0.15:
            along = (math.cos(2 * angle) * axis[:, None] - math.sin(2 * angle) * axis[None]) * size / 2
            waves = np.sign(waves * np.sin(along * (2 * math.pi / period)))
        elif pattern < 0.3:
            waves = np.sign(waves)
        canvas += waves[..., None].astype(np.float32) * color
    return canvas.clip(0, 255)


def draw_mark(rng: np.random.Generator, side: float, size: int) -> Plane:
    """Draw a mark that is no digit: strokes as of a letter, a long line, a blob or a rectangle.

    Args:
        rng: Decides all of it.
        side: Pixels of its longer side; a line has another length.
        size: Side of the scene.

    Returns:
        The covered fraction of each pixel.
    """
    kind = rng.random()
    if kind < 0.45:
        return _letter(rng, side)
    if kind < 0.65:
        return _line(rng, size)
    if kind < 0.85:
        return _blob(rng, side)
    return _rectangle(rng, side)


def _clouds(
    rng: np.random.Generator, size: int, cells: int, strength: float
) -> Float[np.ndarray, "size size 3"]:
    """Draw smooth noise of so many cells to a side, mostly grey."""
    grey = rng.normal(0, strength, (cells, cells, 1))
    colored = rng.normal(0, strength / 2, (cells, cells, 3))
    coarse = (grey + colored).astype(np.float32)
    channels = [
        np.asarray(Image.fromarray(coarse[..., one]).resize((size, size), Image.Resampling.BICUBIC))
        for one in range(3)
    ]
    return np.stack(channels, axis=-1)


def _letter(rng: np.random.Generator, side: float) -> Plane:
    strokes = _LETTERS[str(rng.choice([*_LETTERS]))]
    high = side * _FINE
    wide = high * rng.uniform(0.6, 1)
    width = max(_FINE, round(high * rng.uniform(0.08, 0.2)))
    image, draw = _sheet(wide + width + _FINE, high + width + _FINE)
    for stroke in strokes:
        points = np.array(stroke).reshape(-1, 2) + rng.normal(0, 0.04, (len(stroke) // 2, 2))
        places = points.clip(0, 1) * (wide, high) + width / 2 + 1
        draw.line([tuple(place) for place in places], fill=1.0, width=width, joint="curve")
        for x, y in places:
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1.0)
    return finish_shape(image, rng.uniform(-15, 15), _FINE)


def _line(rng: np.random.Generator, size: int) -> Plane:
    """Draw a line that is far longer and thinner than the stroke of a digit."""
    length = rng.uniform(0.4, 0.95) * size
    width = min(rng.uniform(1, 3), length / 20)
    image, draw = _sheet(length * _FINE, max(2, width * _FINE + 2))
    draw.line((0, image.height / 2, image.width, image.height / 2), fill=1.0, width=round(width * _FINE))
    return finish_shape(image, rng.uniform(0, 180), _FINE)[:size, :size]


def _blob(rng: np.random.Generator, side: float) -> Plane:
    angles = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    radius = np.ones(40)
    for wave in (2, 3, 5):
        radius += rng.uniform(0, 0.5 / wave) * np.sin(wave * angles + rng.uniform(0, 2 * math.pi))
    radius *= side * _FINE / 2 / radius.max()
    image, draw = _sheet(side * _FINE + 2, side * _FINE + 2)
    middle = image.width / 2
    places = np.stack([middle + radius * np.cos(angles), middle + radius * np.sin(angles)], axis=1)
    draw.polygon([tuple(place) for place in places], fill=1.0)
    return finish_shape(image, 0.0, _FINE)


def _rectangle(rng: np.random.Generator, side: float) -> Plane:
    high, wide = side * _FINE, side * _FINE * rng.uniform(0.4, 1)
    image, draw = _sheet(wide + 2, high + 2)
    inside = (1, 1, 1 + wide - 1, 1 + high - 1)
    if rng.random() < 0.5:
        draw.rectangle(inside, fill=1.0)
    else:
        draw.rectangle(inside, outline=1.0, width=max(_FINE, round(high * rng.uniform(0.04, 0.1))))
    return finish_shape(image, rng.uniform(-45, 45), _FINE)


def _sheet(wide: float, high: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("F", (math.ceil(wide), math.ceil(high)))
    return image, ImageDraw.Draw(image)
