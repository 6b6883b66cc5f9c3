"""Scikit-learn's bundled handwritten digits, 1,797 grey 8×8 images: plain, 200 labelled, or as files."""

import io
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import DigitImagesConfig, MovedDigitsConfig, SemiConfig
from lambdanets.data.images import ImageTest, training_images
from lambdanets.data.preprocessing import Foreground, Preprocessing
from lambdanets.data.seeds import Purpose, generator, permutation
from lambdanets.data.task import Batch, Task, Unlabelled
from lambdanets.dependencies import missing_library
from lambdanets.errors import DataError

NUM_TEST: Final = 500
LABELS: Final = tuple("0123456789")

# Digits of each class that have labels in `semi`.
_LABELLED_EACH: Final = 20

# Side of the square around the ink of an image, in pixels: as large a one takes 0.5 GB.
_LONGEST_INK: Final = 11_585

# Mean and standard deviation of all pixels of the 1,297 training images, after division by 16.
MEAN: Final = 0.3059
STD: Final = 0.3755

Images = Float[Tensor, "n 1 8 8"]
Labels = Int[Tensor, " n"]
Plane = Float[np.ndarray, "_ _"]


def load(config: MovedDigitsConfig, seed: int) -> Task:
    """Load the data set `digits`."""
    train, test = load_digits()
    return _task(_MovedDigits(digits=train, seed=seed, config=config), test)


def load_semi(config: SemiConfig, seed: int) -> Task:
    """Load the data set `semi`: the seed decides which digits are labelled, a teacher labels the others."""
    train, test = load_digits()
    is_labelled = _choose(train.labels, seed)
    labelled, others = (
        Digits(train.images[chosen], train.labels[chosen]) for chosen in (is_labelled, ~is_labelled)
    )
    task = _task(_MovedDigits(digits=labelled, seed=seed, config=config), test)
    shown = _MovedDigits(digits=others, seed=seed, config=config)
    return replace(
        task, unlabelled=Unlabelled(shown=shown, clean=others, labels=LABELS, targets=others.labels)
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

    in_memory: ClassVar[bool] = True
    images: Images
    labels: Labels

    @property
    def targets(self) -> Labels:
        """Which digit each one is, by the name that all images with classes have for it."""
        return self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Labels) -> Batch:
        """The images of these indices, normalised, as a network takes them."""
        return Batch(normalize(self.images[indices]), self.labels[indices])


@dataclass(frozen=True, kw_only=True)
class _MovedDigits:
    """Training images that move a little in each epoch: a pure function of (seed, epoch, index).

    Each image is shifted, rotated and scaled about its centre by amounts drawn evenly between minus and
    plus the largest, with bilinear interpolation; what comes in from outside is paper.
    """

    in_memory: ClassVar[bool] = True
    digits: Digits
    seed: int
    config: MovedDigitsConfig

    @property
    def source(self) -> Digits:
        return self.digits

    def __len__(self) -> int:
        return len(self.digits)

    def order(self, epoch: int) -> Labels:
        return permutation(len(self), Purpose.DIGITS_ORDER, self.seed, epoch)

    def batch(self, epoch: int, indices: Labels) -> Batch:
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
    """Digits as PNG files of 32×32 pixels, paper black and ink white."""

    digits: Digits
    labels: tuple[str, ...] = LABELS

    @property
    def targets(self) -> Labels:
        return self.digits.labels

    def __len__(self) -> int:
        return len(self.digits)

    def name(self, index: int) -> str:
        return f"digit {index}"

    def relative_name(self, index: int) -> bytes:
        return b"%d" % index

    def read(self, index: int) -> bytes:
        file = io.BytesIO()
        enlarged(self.digits.images[index, 0].numpy()).save(file, "PNG")
        return file.getvalue()


def load_digits() -> tuple[Digits, Digits]:
    """Load the training images and the test images.

    The last 500 in stored order are the test: the writers follow one another there, and a shuffled split
    would put every writer on both sides.
    """
    try:
        from sklearn.datasets import load_digits as load_bundled
    except ImportError as error:
        raise missing_library("load_digits", "scikit-learn") from error
    bundled = load_bundled()
    if bundled.images.shape != (1797, 8, 8):
        raise DataError(f"load_digits: images must have shape (1797, 8, 8), got {bundled.images.shape}.")
    images = torch.tensor(bundled.images / 16, dtype=torch.float32).unsqueeze(1)  # n 1 8 8
    labels = torch.tensor(bundled.target, dtype=torch.int64)
    return Digits(images[:-NUM_TEST], labels[:-NUM_TEST]), Digits(images[-NUM_TEST:], labels[-NUM_TEST:])


def normalize(images: Images) -> Images:
    """Give pixels zero mean and unit variance, as over the training images."""
    return (images - MEAN) / STD


def _choose(labels: Labels, seed: int) -> Bool[Tensor, " n"]:
    """Choose the digits that have labels in `semi`, as many of each class."""
    rng = generator(Purpose.LABELLED_DIGITS, seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(LABELS)):
        (those,) = torch.nonzero(labels == label, as_tuple=True)
        chosen[those[rng.permutation(len(those))[:_LABELLED_EACH]]] = True
    return chosen


def _task(train: _MovedDigits, test: Digits) -> Task:
    preprocessing = Preprocessing(size=8, mean=(MEAN,), std=(STD,), foreground=Foreground())
    return Task(train=train, test=test, labels=LABELS, in_channels=1, preprocessing=preprocessing)


def find_ink(image: Image.Image) -> tuple[Plane, bool]:
    """Tell the ink of any image from its paper.

    Returns:
        The ink, from 0 for paper to 1 for the darkest ink, and whether dark and light were exchanged.

    Raises:
        DataError: The image has one brightness alone.
    """
    grey = np.asarray(image.convert("L"), dtype=np.float32) / 255
    # The border decides what the paper is.
    paper = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    inverted = bool(paper - grey.min() > grey.max() - paper)
    ink = np.clip(paper - grey if inverted else grey - paper, 0, None)
    if ink.max() <= 0.02:
        raise DataError("must show a digit, got an image of one brightness.")
    return ink / ink.max(), inverted


def draw_digit(image: Image.Image, side: int, steps: Foreground) -> tuple[Plane, bool]:
    """Draw the digit of any image, with so many cells to a side, as the bundled digits are drawn.

    Returns:
        The digit, 0 for paper and 1 for ink, and whether dark and light were exchanged.
    """
    ink, inverted = find_ink(image)
    fine = _fine_grid(ink, side * steps.oversampling, steps.min_coverage)
    return fine.reshape(side, steps.oversampling, side, steps.oversampling).mean(axis=(1, 3)), inverted


def _fine_grid(ink: Plane, side: int, min_coverage: float) -> Plane:
    """Cut out the ink, pad it to a square, and draw it in black and white."""
    cut = Image.fromarray(ink).crop(Image.fromarray(ink > 0.5).getbbox())
    longest = max(cut.size)
    if longest > _LONGEST_INK:
        raise DataError(
            f"must show a digit of at most {_LONGEST_INK:,} pixels a side, got {cut.width}×{cut.height}."
        )
    before, above = (longest - cut.width) // 2, (longest - cut.height) // 2
    # Outside of an image Pillow finds zeros, which is paper.
    square = cut.crop((-before, -above, longest - before, longest - above))
    grey = np.asarray(square.resize((side, side), Image.Resampling.BOX))
    # A thin line spreads over whole cells of the grid and turns pale: half of the darkest is still ink.
    strokes = Image.fromarray(np.where(grey > grey.max() / 2, 255, 0).astype(np.uint8))
    while np.asarray(strokes).mean() / 255 < min_coverage:
        strokes = strokes.filter(ImageFilter.MaxFilter(3))
    return np.asarray(strokes, dtype=np.float32) / 255


def enlarged(plane: Plane) -> Image.Image:
    """Draw numbers between 0 and 1 as a grey image, each a square of 4×4 pixels."""
    small = Image.fromarray(np.round(plane * 255).astype(np.uint8))
    return ImageOps.scale(small, 4, Image.Resampling.NEAREST)
