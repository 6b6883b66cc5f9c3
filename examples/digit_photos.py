"""Make a small data set to try fine-tuning on: handwritten digits on grounds such as photos have, in folders.

python examples/digit_photos.py DIR --train 20 --val 50

Writes DIR/train/zero/000.png and so on, so many images for each of the ten classes. The handwriting is that
of scikit-learn's bundled digits: its training part in `train`, its test part in `val`. The same arguments
give the same files; a smaller --train gives the first of them.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from lambdanets.detection.backdrops import draw_background, draw_mark
from lambdanets.detection.handwriting import Handwriting, load_handwriting, render_ink

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PARTS = ("train", "val")
# How much lighter paint is than its ground, of 255 levels.
CONTRAST = (60, 150)


def photo(rng: np.random.Generator, ink: np.ndarray, size: int) -> np.ndarray:
    """A digit in light paint on dark textured ground, turned a little, at times with a letter or a line."""
    canvas = rng.uniform(0.2, 0.6) * draw_background(rng, size)
    if rng.random() < 0.3:
        paste(rng, canvas, draw_mark(rng, size / 5, size), 1.0)
    paste(rng, canvas, render_ink(ink, rng.uniform(0.7, 0.9) * size, rng.uniform(-12, 12)), 0.3)
    canvas += rng.uniform(0, 8) * rng.standard_normal(canvas.shape)
    return canvas.clip(0, 255).round().astype(np.uint8)


def paste(rng: np.random.Generator, canvas: np.ndarray, cover: np.ndarray, spread: float) -> None:
    """Paint a shape in a light colour, anywhere (spread 1) or nearer the middle."""
    size = len(canvas)
    cover = cover[:size, :size]
    places = (0.5 + spread * rng.uniform(-0.5, 0.5, 2)) * (size - np.array(cover.shape))
    top, left = places.round().astype(int)
    below = canvas[top : top + cover.shape[0], left : left + cover.shape[1]]
    colour = below.mean((0, 1)) + rng.uniform(*CONTRAST) + rng.uniform(-30, 30, 3)
    below += cover[..., None] * (colour - below)


def write_part(folder: Path, digits: Handwriting, per_class: int, size: int, seed: int) -> None:
    """Write so many images of each class."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        own = np.flatnonzero(digits.targets == label)
        for number in range(per_class):
            rng = np.random.default_rng((seed, len(folder.name), label, number))
            ink = digits.read(int(own[number % len(own)]))
            Image.fromarray(photo(rng, ink, size)).save(folder / name / f"{number:03d}.png")


def main() -> None:
    """Write both parts and say how many there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--train", type=int, default=20, help="training images of each class")
    parser.add_argument("--val", type=int, default=50, help="validation images of each class")
    parser.add_argument("--size", type=int, default=40, help="side of the images in pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for part, digits in zip(PARTS, load_handwriting(None), strict=True):
        write_part(given.folder / part, digits, getattr(given, part), given.size, given.seed)
    print(f"{given.folder}: {10 * given.train} images to train with, {10 * given.val} to validate with")


if __name__ == "__main__":
    main()
