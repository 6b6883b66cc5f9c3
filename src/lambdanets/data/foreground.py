"""The digit on an image of paper and ink: found, cut out, and drawn on a small grid."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from lambdanets.errors import DataError

Plane = Float[np.ndarray, "_ _"]


def draw(image: Image.Image, side: int, oversampling: int, min_coverage: float) -> tuple[Plane, bool]:
    """Draw the digit of an image as the bundled digits are drawn; the steps are those of `Foreground`.

    Args:
        image: The image.
        side: Side of the result, in cells.
        oversampling: Cells of the fine grid to one of the result, along each axis.
        min_coverage: Least fraction of the fine grid that ink covers.

    Returns:
        The digit, 0 for paper and 1 for ink, and whether dark and light were exchanged.

    Raises:
        DataError: The image is blank.
    """
    ink, inverted = _light_ink(np.asarray(image.convert("L"), dtype=np.float32) / 255)
    if ink is None:
        raise DataError("must show a digit, got an image of one brightness.")
    fine = _fine_grid(ink, side * oversampling, min_coverage)
    return fine.reshape(side, oversampling, side, oversampling).mean(axis=(1, 3)), inverted


def _fine_grid(ink: Plane, side: int, min_coverage: float) -> Plane:
    grey = np.asarray(Image.fromarray(_square(_cropped(ink))).resize((side,) * 2, Image.Resampling.BOX))
    # A thin line spreads over whole cells of the grid and turns pale: half of the darkest is still ink.
    strokes = Image.fromarray(np.where(grey > grey.max() / 2, 255, 0).astype(np.uint8))
    while np.asarray(strokes).mean() / 255 < min_coverage:
        strokes = strokes.filter(ImageFilter.MaxFilter(3))
    return np.asarray(strokes, dtype=np.float32) / 255


def _light_ink(grey: Plane) -> tuple[Plane | None, bool]:
    """Make ink light (1) on dark paper (0); the border decides what the paper is.

    Returns:
        The ink, or None where all is paper; and whether dark and light were exchanged.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    inverted = bool(paper - grey.min() > grey.max() - paper)
    ink = np.clip(paper - grey if inverted else grey - paper, 0, None)
    return (ink / ink.max(), inverted) if ink.max() > 0.02 else (None, inverted)


def _cropped(ink: Plane) -> Plane:
    rows = np.flatnonzero((ink > 0.5).any(axis=1))
    columns = np.flatnonzero((ink > 0.5).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _square(ink: Plane) -> Plane:
    height, width = ink.shape
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return np.pad(ink, ((above, side - height - above), (before, side - width - before)))


def enlarged(plane: Plane, factor: int = 4) -> Image.Image:
    """Numbers between 0 and 1 as a grey image, each a square of pixels."""
    small = np.round(plane * 255).astype(np.uint8)
    return Image.fromarray(np.kron(small, np.ones((factor, factor), np.uint8)))
