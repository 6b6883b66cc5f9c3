"""Scikit-learn's bundled handwritten digits, 1,797 grey 8×8 images: plain, 200 labelled, or as files."""

import io
import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lambdanets.data.config import AugmentConfig, DigitImagesConfig, MovedDigitsConfig, SemiConfig
from lambdanets.data.foreground import enlarged
from lambdanets.data.images import ImageTest, training_images
from lambdanets.data.preprocessing import Foreground, Preprocessing
from lambdanets.data.seeds import Purpose, generator, permutation
from lambdanets.data.task import Batch, Task, Unlabelled
from lambdanets.errors import ArgumentError, DataError, DependencyError

NUM_TEST: Final = 500
NUM_CLASSES: Final = 10
LABELS: Final = tuple(str(digit) for digit in range(NUM_CLASSES))

# Digits of `semi` that have labels, as many of each class.
_NUM_LABELLED: Final = 200

# Mean and standard deviation of all pixels of the 1,297 training images, after division by 16.
MEAN: Final = 0.3059
STD: Final = 0.3755

Images = Float[Tensor, "n 1 8 8"]
Labels = Int[Tensor, " n"]


def load(config: MovedDigitsConfig, seed: int) -> Task:
    """Load the data set `digits`."""
    train, test = load_digits()
    return _task(_MovedDigits(digits=train, seed=seed, config=config), test)


def load_semi(config: SemiConfig, seed: int) -> Task:
    """Load the data set `semi`: the seed decides which digits are labelled, a teacher labels the others."""
    train, test = load_digits()
    is_labelled = choose(train, _NUM_LABELLED // NUM_CLASSES, seed)
    labelled, others = (train.select(chosen) for chosen in (is_labelled, ~is_labelled))
    unlabelled = Unlabelled(
        shown=_MovedDigits(digits=others, seed=seed, config=config),
        clean=others,
        labels=LABELS,
        targets=others.labels,
    )
    return replace(
        _task(_MovedDigits(digits=labelled, seed=seed, config=config), test), unlabelled=unlabelled
    )


def load_images(config: DigitImagesConfig, seed: int, augment: AugmentConfig, max_unreadable: int) -> Task:
    """Load the data set `digit-images`."""
    train, test = (_DigitSource(part) for part in load_digits())
    # Digits reach to the border: a test cuts nothing off.
    preprocessing = Preprocessing(size=config.test_size, crop_fraction=1.0, foreground=Foreground(grid=8))
    return Task(
        train=training_images(train, config, seed, augment, max_unreadable),
        test=ImageTest(source=test, preprocessing=preprocessing),
        labels=train.labels,
        in_channels=3,
        preprocessing=preprocessing,
        prepare=preprocessing.normalize,
    )


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

    def select(self, chosen: Bool[Tensor, " n"]) -> "Digits":
        """Some of the digits."""
        return Digits(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, kw_only=True)
class _MovedDigits:
    """Training images that move a little in each epoch: a pure function of (seed, epoch, index).

    Each image is shifted, rotated and scaled about its centre by amounts drawn evenly between minus and
    plus the largest, with bilinear interpolation; what comes in from outside is paper.

    Attributes:
        digits: The images as they are stored.
        seed: The seed of the run.
        config: How far they move.
    """

    digits: Digits
    seed: int
    config: MovedDigitsConfig

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
        angle = math.radians(self.config.max_rotation) * draw[0]
        across, down = 1 + self.config.max_scaling * draw[1:3]
        # The grid runs from -1 to 1 over 8 pixels, so a pixel is 2 / 8.
        right, low = self.config.max_shift * draw[3:5] * 2 / 8
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor(
            [[cos * across, -sin * down, right], [sin * across, cos * down, low]], dtype=torch.float32
        )


@dataclass(frozen=True, eq=False)
class _DigitSource:
    """The digits as PNG files of 32×32 pixels, paper black and ink white.

    Attributes:
        digits: Those for training, or those for the test.
    """

    digits: Digits

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        return LABELS

    @property
    def targets(self) -> Labels:
        """Which digit each one is."""
        return self.digits.labels

    def __len__(self) -> int:
        return len(self.digits)

    def name(self, index: int) -> str:
        """Which of the digits it is."""
        return f"digit {index}"

    def read(self, index: int) -> bytes:
        """The bytes of its file."""
        file = io.BytesIO()
        enlarged(self.digits.images[index, 0].numpy()).save(file, "PNG")
        return file.getvalue()


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


def choose(digits: Digits, num_each: int, seed: int) -> Bool[Tensor, " n"]:
    """Choose digits at random, as many of each class.

    Returns:
        True where a digit is chosen.
    """
    rng = generator(Purpose.LABELLED_DIGITS, seed)
    chosen = torch.zeros(len(digits), dtype=torch.bool)
    for label in range(NUM_CLASSES):
        (those,) = torch.nonzero(digits.labels == label, as_tuple=True)
        if len(those) < num_each:
            raise ArgumentError(
                f"choose: num_each must be at most the images of a class, {len(those)} of"
                f" {label}, got {num_each}."
            )
        chosen[those[rng.permutation(len(those))[:num_each]]] = True
    return chosen


def _task(train: _MovedDigits, test: Digits) -> Task:
    preprocessing = Preprocessing(size=8, mean=(MEAN,), std=(STD,), foreground=Foreground())
    return Task(train=train, test=test, labels=LABELS, in_channels=1, preprocessing=preprocessing)
