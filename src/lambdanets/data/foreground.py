"""The digit on an image of paper and ink: found, cut out, and drawn on a small grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from lambdanets.errors import DataError

Plane = Float[np.ndarray, "_ _"]


@dataclass(frozen=True, kw_only=True)
class Foreground:
    """Draws the digit of any image as scikit-learn's bundled digits are drawn.

    The steps: grey; light ink on dark paper, decided by the border; the ink cut out and padded to a square;
    a black and white grid, finer than the result by `oversampling`, whose strokes are thickened until they
    cover `min_coverage`, as those of the bundled digits do (0.31, whatever the digit); the mean of each
    block of it, which is how the bundled digits were made.

    Attributes:
        grid: Side of the result, in cells; None: the size of the network's input.
        oversampling: Cells of the fine grid to one of the result, along each axis.
        min_coverage: Least fraction of the fine grid that ink covers.
    """

    grid: int | None = None
    oversampling: int = 4
    min_coverage: float = 0.25

    def draw(self, image: Image.Image, size: int) -> tuple[Plane, bool]:
        """Draw the digit of an image.

        Args:
            image: The image.
            size: Side of the result where there is no `grid`.

        Returns:
            The digit, 0 for paper and 1 for ink, and whether dark and light were exchanged.

        Raises:
            DataError: The image is blank.
        """
        side = self.grid or size
        ink, inverted = light_ink(np.asarray(image.convert("L"), dtype=np.float32) / 255)
        if ink is None:
            raise DataError("must show a digit, got an image of one brightness.")
        fine = self._fine_grid(ink, side * self.oversampling)
        return fine.reshape(side, self.oversampling, side, self.oversampling).mean(axis=(1, 3)), inverted

    def _fine_grid(self, ink: Plane, side: int) -> Plane:
        grey = np.asarray(Image.fromarray(_square(_cropped(ink))).resize((side,) * 2, Image.Resampling.BOX))
        # A thin line spreads over whole cells of the grid and turns pale: half of the darkest is still ink.
        strokes = Image.fromarray(np.where(grey > grey.max() / 2, 255, 0).astype(np.uint8))
        while np.asarray(strokes).mean() / 255 < self.min_coverage:
            strokes = strokes.filter(ImageFilter.MaxFilter(3))
        return np.asarray(strokes, dtype=np.float32) / 255


def light_ink(grey: Plane) -> tuple[Plane | None, bool]:
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
