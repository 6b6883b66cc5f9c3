"""Scikit-learn's bundled handwritten digits: 1,797 grey 8x8 images by 13 writers."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lambdanets.data.config import MovedDigitsConfig
from lambdanets.data.ink import MEAN, STD, InkPreprocessing
from lambdanets.data.seeds import Purpose, generator, permutation
from lambdanets.data.task import Batch, Task
from lambdanets.errors import DataError, DependencyError

NUM_TEST: Final = 500
NUM_CLASSES: Final = 10
LABELS: Final = tuple(str(digit) for digit in range(NUM_CLASSES))

Images = Float[Tensor, "n 1 8 8"]
Labels = Int[Tensor, " n"]


@dataclass(frozen=True)
class Digits:
    """Images between 0 (paper) and 1 (ink), and which digit each one is."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Labels) -> Batch:
        """The images of these indices, normalised, as a network takes them."""
        return Batch(normalize(self.images[indices]), self.labels[indices])


def load(config: MovedDigitsConfig, seed: int) -> Task:
    """The digits as a data set."""
    train, test = load_digits()
    return digits_task(config, seed, train, test)


def digits_task(config: MovedDigitsConfig, seed: int, train: Digits, test: Digits) -> Task:
    """Digits that move in training, and those to test with."""
    return Task(
        train=moved(config, seed, train),
        test=test,
        labels=LABELS,
        in_channels=1,
        preprocessing=InkPreprocessing(),
    )


def moved(config: MovedDigitsConfig, seed: int, digits: Digits) -> "AugmentedDigits":
    """Digits that move as the settings say."""
    return AugmentedDigits(
        digits=digits,
        seed=seed,
        max_shift=config.max_shift,
        max_rotation=config.max_rotation,
        max_scaling=config.max_scaling,
    )


def load_digits() -> tuple[Digits, Digits]:
    """Load the training images and the test images.

    The last 500 in stored order are the test: the writers follow one another there, and a shuffled split
    would put every writer on both sides.

    Raises:
        DependencyError: scikit-learn is not installed.
        DataError: The installed scikit-learn bundles something else.
    """
    try:
        from sklearn.datasets import load_digits as load_bundled
    except ImportError as error:
        raise DependencyError(
            "load_digits: scikit-learn must be installed, got none. pip install 'lambdanets[train]'."
        ) from error
    bundled = load_bundled()
    if bundled.images.shape != (1797, 8, 8):
        raise DataError(f"load_digits: images must have shape (1797, 8, 8), got {bundled.images.shape}.")
    images = torch.tensor(bundled.images / 16, dtype=torch.float32).unsqueeze(1)  # n 1 8 8
    labels = torch.tensor(bundled.target, dtype=torch.int64)
    return Digits(images[:-NUM_TEST], labels[:-NUM_TEST]), Digits(images[-NUM_TEST:], labels[-NUM_TEST:])


def normalize(images: Images) -> Images:
    """Give pixels zero mean and unit variance, as over the training images."""
    return (images - MEAN) / STD


@dataclass(frozen=True, kw_only=True)
class AugmentedDigits:
    """Training images that move a little in each epoch: a pure function of (seed, epoch, index).

    Each image is shifted, rotated and scaled about its centre by amounts drawn evenly between minus and
    plus the largest, with bilinear interpolation; what comes in from outside is paper.

    Attributes:
        digits: The images as they are stored.
        seed: The seed of the run.
        max_shift: Largest shift along each axis, in pixels.
        max_rotation: Largest rotation, in degrees.
        max_scaling: Largest change of size along each axis, as a fraction.
    """

    digits: Digits
    seed: int
    max_shift: float = 0.0
    max_rotation: float = 0.0
    max_scaling: float = 0.0

    def __len__(self) -> int:
        return len(self.digits)

    def order(self, epoch: int) -> Labels:
        """The order of an epoch: each index once."""
        return permutation(len(self), Purpose.DIGITS_ORDER, self.seed, epoch)

    def batch(self, epoch: int, indices: Labels) -> Batch:
        """The images of these indices as this epoch shows them, and their labels."""
        motions = torch.stack([self._motion(epoch, int(index)) for index in indices])  # n 2 3
        images = self.digits.images[indices]
        grid = affine_grid(motions, list(images.shape), align_corners=False)
        moved = grid_sample(images, grid, align_corners=False)
        return Batch(normalize(moved), self.digits.labels[indices])

    def _motion(self, epoch: int, index: int) -> Float[Tensor, "2 3"]:
        # Where each pixel of the result is read: rotation and scale about the centre, then the shift.
        draw = generator(Purpose.DIGITS_MOTION, self.seed, epoch, index).uniform(-1, 1, size=5)
        angle = math.radians(self.max_rotation) * draw[0]
        across, down = 1 + self.max_scaling * draw[1:3]
        # The grid runs from -1 to 1 over 8 pixels, so a pixel is 2 / 8.
        right, low = self.max_shift * draw[3:5] * 2 / 8
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor(
            [[cos * across, -sin * down, right], [sin * across, cos * down, low]], dtype=torch.float32
        )
