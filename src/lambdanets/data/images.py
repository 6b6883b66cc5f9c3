"""Images of a source as training and test data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import FilesConfig, SizedConfig
from lambdanets.data.decode import decode
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.seeds import Purpose, permutation
from lambdanets.data.sources import Source
from lambdanets.data.task import Batch, Task, Unlabelled
from lambdanets.data.transforms import TrainTransform
from lambdanets.errors import DataError, complaint

T = TypeVar("T")


def load(config: FilesConfig, seed: int, augment: AugmentConfig, max_unreadable: int) -> Task:
    """Images from files as a data set."""
    train, test = config.open_parts()
    shown = training_images(train, config, seed, augment, max_unreadable)
    preprocessing = Preprocessing(size=config.test_size, crop_fraction=config.test_crop)
    return Task(
        train=shown,
        test=ImageTest(source=test, preprocessing=preprocessing),
        labels=train.labels,
        in_channels=3,
        preprocessing=preprocessing,
        prepare=preprocessing.normalize,
        test_name=config.test_name,
        # A teacher is not told the classes of the folders.
        unlabelled=Unlabelled(shown=shown, clean=ImageTest(source=train, preprocessing=preprocessing)),
    )


def training_images(
    source: Source, config: SizedConfig, seed: int, augment: AugmentConfig, max_unreadable: int
) -> "ImageTraining":
    """The images of a source as training shows them."""
    transform = TrainTransform(size=config.image_size, augment=augment)
    return ImageTraining(source=source, seed=seed, transform=transform, max_in_a_row=max_unreadable)


@dataclass(frozen=True, kw_only=True)
class ImageTraining:
    """Training images from files: a pure function of (seed, epoch, index).

    Where a file cannot be read, the next one that can stands in for it, with its own class.

    Attributes:
        source: The encoded images.
        seed: The seed of the run.
        transform: How they are augmented.
        max_in_a_row: Files, one after another, that may be unreadable.
    """

    source: Source
    seed: int
    transform: TrainTransform
    max_in_a_row: int = 50

    def __len__(self) -> int:
        return len(self.source)

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        """The order of an epoch: each index once."""
        return permutation(len(self), Purpose.IMAGES_ORDER, self.seed, epoch)

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices as this epoch shows them, as bytes, and their classes.

        Raises:
            DataError: More than `max_in_a_row` files, one after another, cannot be read.
        """
        size = self.transform.size
        images = torch.empty(len(indices), 3, size, size, dtype=torch.uint8)
        shown: list[int] = []
        unreadable: list[str] = []
        for place, index in enumerate(indices.tolist()):
            image, found, reasons = first_readable(self._read, index, len(self), self.max_in_a_row)
            images[place] = self.transform(image, (self.seed, epoch, index))
            shown.append(found)
            unreadable += reasons
        return Batch(images, self.source.targets[shown], tuple(unreadable))

    def _read(self, index: int) -> Image.Image:
        return decode(self.source.read(index), self.source.name(index))


def first_readable(
    read: Callable[[int], T], index: int, num_files: int, max_in_a_row: int
) -> tuple[T, int, list[str]]:
    """Read the file at an index, or the next one that can be read.

    Args:
        read: Reads a file, or raises a `DataError`.
        index: The first to try; after the last comes the first one.
        num_files: How many there are.
        max_in_a_row: Files, one after another, that may be unreadable.

    Returns:
        The content, its index, and why those before it were skipped.

    Raises:
        DataError: As many files as `max_in_a_row` cannot be read.
    """
    reasons: list[str] = []
    while len(reasons) < min(max_in_a_row, num_files):
        place = (index + len(reasons)) % num_files
        try:
            return read(place), place, reasons
        except DataError as error:
            reasons.append(str(error))
    raise DataError(
        f"train: fewer than {len(reasons)} files in a row may be unreadable, got as many, the first:"
        f" {reasons[0]}"
    )


@dataclass(frozen=True, kw_only=True)
class ImageTest:
    """Test images from files.

    Attributes:
        source: The encoded images.
        preprocessing: From an image to pixels.
    """

    source: Source
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices, as bytes, and their classes.

        Raises:
            DataError: A file cannot be read.
        """
        size = self.preprocessing.size
        images = torch.empty(len(indices), 3, size, size, dtype=torch.uint8)
        for place, index in enumerate(indices.tolist()):
            name = self.source.name(index)
            image = decode(self.source.read(index), name)
            with complaint(name):
                images[place] = self.preprocessing.pixels(image)
        return Batch(images, self.source.targets[indices])
