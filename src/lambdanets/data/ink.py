"""A foreign image of a digit, made to look like the bundled ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageFilter
from torch import Tensor

from lambdanets.data.decode import Plane, read_grey
from lambdanets.errors import DataError

# Mean and standard deviation of all pixels of the 1,297 training digits, after division by 16.
MEAN: Final = 0.3059
STD: Final = 0.3755


@dataclass(frozen=True, kw_only=True)
class InkPreprocessing:
    """From any image of one digit to what the network takes, as plain data for a checkpoint's JSON.

    The steps: grey; light ink on dark paper, decided by the border; the ink cut out and padded to a square;
    a black and white grid of `fine_size`, its strokes thickened until they cover `ink_share` as in the
    bundled digits (their strokes cover 0.31 whatever the digit); the mean of each block of it (as the
    bundled digits were made); normalised.

    Attributes:
        size: Side of the result, in pixels.
        fine_size: Side of the black and white grid.
        ink_share: Least part of the grid that ink covers.
        mean: Subtracted from each pixel.
        std: What each pixel is then divided by.
    """

    size: int = 8
    fine_size: int = 32
    ink_share: float = 0.25
    mean: float = MEAN
    std: float = STD

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the name of the method."""
        return {"method": "ink", **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "InkPreprocessing":
        """What `to_dict` gave."""
        return cls(**{name: value for name, value in values.items() if name != "method"})

    def read(self, path: Path, who: str = "predict") -> tuple[Float[Tensor, "1 size size"], bool]:
        """Read an image file.

        Args:
            path: The file.
            who: The job that complains.

        Returns:
            The image as the network takes it, and whether dark and light were exchanged.

        Raises:
            PathError: There is no such file.
            DataError: The file cannot be read, or the image is blank.
        """
        blocks, inverted = self.ink(path, who)
        return torch.tensor((blocks - self.mean) / self.std, dtype=torch.float32).unsqueeze(0), inverted

    def ink(self, path: Path, who: str) -> tuple[Plane, bool]:
        """The ink of an image file, between 0 and 1, and whether dark and light were exchanged."""
        ink, inverted = light_ink(read_grey(path, who))
        if ink is None:
            raise DataError(f"{who}: {path} must show a digit, got an image of one brightness.")
        grid = self._fine_grid(ink)
        return grid.reshape(self.size, self.fine_size // self.size, self.size, -1).mean(axis=(1, 3)), inverted

    def resized(self, size: int) -> "InkPreprocessing":
        """The same for an image of another size."""
        return replace(self, size=size, fine_size=self.fine_size // self.size * size)

    def shown(self, pixels: Float[Tensor, "1 height width"]) -> Plane:
        """What the network takes, between 0 and 1 again, to be drawn."""
        return (pixels[0] * self.std + self.mean).numpy().clip(0, 1)

    def _fine_grid(self, ink: Plane) -> Plane:
        image = Image.fromarray(_squared(_cropped(ink))).resize((self.fine_size,) * 2, Image.Resampling.BOX)
        grey = np.asarray(image)
        # A thin line spreads over whole pixels of the grid and turns pale: half of the darkest is still ink.
        strokes = Image.fromarray(np.where(grey > grey.max() / 2, 255, 0).astype(np.uint8))
        while np.asarray(strokes).mean() / 255 < self.ink_share:
            strokes = strokes.filter(ImageFilter.MaxFilter(3))
        return np.asarray(strokes, dtype=np.float32) / 255


def light_ink(grey: Plane) -> tuple[Plane | None, bool]:
    """Make ink light (1) on dark paper (0); the border tells what the paper is.

    Returns:
        The ink, or None where all is paper; and whether dark and light were exchanged.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    inverted = paper - grey.min() > grey.max() - paper
    ink = np.clip(paper - grey if inverted else grey - paper, 0, None)
    return (ink / ink.max(), bool(inverted)) if ink.max() > 0.02 else (None, bool(inverted))


def _cropped(ink: Plane) -> Plane:
    rows = np.flatnonzero((ink > 0.5).any(axis=1))
    columns = np.flatnonzero((ink > 0.5).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _squared(ink: Plane) -> Plane:
    height, width = ink.shape
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return np.pad(ink, ((above, side - height - above), (before, side - width - before)))
