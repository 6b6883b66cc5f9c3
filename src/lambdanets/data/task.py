"""Data sets ready for use: batches, and images as functions of the epoch and the index."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.seeds import permutation
from lambdanets.errors import DataError

T = TypeVar("T")

# Normalised numbers, or pixels as bytes that `Task.prepare` normalises where the network is.
Images = Float[Tensor, "b c height width"] | UInt8[Tensor, "b c height width"]

# The class of each image, or a probability of every class.
Targets = Int[Tensor, " b"] | Float[Tensor, "b num_classes"]

# Draws an image for each seed, of the class beside it.
Seed = tuple[int, ...]
Draw = Callable[[Sequence[Seed], Int[Tensor, " b"]], Images]


class Batch(NamedTuple):
    """Images with their targets, and a sentence for each file that could not be read and was replaced.

    Targets are `Targets` of classification; for detection a tuple with a dictionary for each image.
    """

    images: Images
    targets: Any
    unreadable: tuple[str, ...] = ()

    def split(self, parts: int) -> "Iterator[Batch]":
        """Cut the images and their targets into so many parts, as equal as can be."""
        first = 0
        for images in self.images.tensor_split(parts):
            last = first + len(images)
            yield Batch(images, self.targets[first:last])
            first = last


@runtime_checkable
class TrainingData(Protocol):
    """Images to train on, as pure functions of the epoch and the index.

    An attribute `in_memory` that is true, here or of `TestData`, says that a batch reads no file, which could
    keep it waiting: it is made without a thread beside the program.
    """

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        """The order of an epoch: each index once."""
        ...

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices as this epoch shows them, and their classes."""
        ...


@runtime_checkable
class TestData(Protocol):
    """Images to judge by."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices, and their classes; where a file cannot be read, a `DataError`."""
        ...


def identity(value: T) -> T:
    """Return the value itself, such as images that come as the network takes them."""
    return value


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """Images that a teacher may label.

    Attributes:
        shown: The images as training shows them to a student.
        clean: The images as the teacher sees them.
        labels: The name of each class of `targets`.
        targets: Their true classes, which count a teacher's mistakes and nothing else; None: not known.
    """

    shown: TrainingData
    clean: TestData
    labels: tuple[str, ...] = ()
    targets: Int[Tensor, " n"] | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set ready for use: images to train and to test with, and how images from outside are read.

    Attributes:
        labels: The name of each class.
        preprocessing: From an image file to what the network takes; None where there can be none.
        prepare: From images of a batch to what the network takes, on its device.
        test_name: What the images of `test` are called: "validation" where they were set aside from those of
            the training, or lie in a part of such a name.
        unlabelled: Images for pseudo-labels; None where the data set has none.
    """

    train: TrainingData
    test: TestData
    labels: tuple[str, ...]
    in_channels: int
    preprocessing: Preprocessing | None = None
    prepare: Callable[[Tensor], Tensor] = identity
    test_name: str = "test"
    unlabelled: Unlabelled | None = None


def drawn_task(
    train: Draw,
    test: Draw,
    *,
    labels: tuple[str, ...],
    num_images: tuple[int, int],
    seed: int,
    purposes: tuple[int, int, int],
) -> Task:
    """A data set of grey images that are drawn; the class of an image is its index modulo their number.

    Args:
        train: Draws training images, new ones in each epoch.
        test: Draws test images, the same ones for every seed.
        labels: The names of the classes.
        num_images: How many to train with, and how many to test with.
        seed: The seed of the run.
        purposes: What seeds are for, as in `seeds`: the order of an epoch, training images, test images.
    """
    order, training, testing = purposes
    return Task(
        train=_DrawnTraining(
            draw=train,
            num_images=num_images[0],
            num_classes=len(labels),
            purpose=training,
            seed=seed,
            order_purpose=order,
        ),
        test=_DrawnTest(draw=test, num_images=num_images[1], num_classes=len(labels), purpose=testing),
        labels=labels,
        in_channels=1,
    )


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """Images that are drawn, from seeds that begin with their purpose."""

    draw: Draw
    num_images: int
    num_classes: int
    purpose: int

    @property
    def targets(self) -> Int[Tensor, " n"]:
        """The class of each image, for the fingerprint of the data."""
        return torch.arange(self.num_images) % self.num_classes

    def __len__(self) -> int:
        return self.num_images

    def _batch(self, seed: Seed, indices: Int[Tensor, " b"]) -> Batch:
        classes = indices % self.num_classes
        return Batch(self.draw([(*seed, index) for index in indices.tolist()], classes), classes)


@dataclass(frozen=True, kw_only=True)
class _DrawnTraining(_Drawn):
    """Training images, new ones in each epoch: a pure function of (seed, epoch, index)."""

    seed: int
    order_purpose: int

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        return permutation(self.num_images, self.order_purpose, self.seed, epoch)

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        return self._batch((self.purpose, self.seed, epoch), indices)


class _DrawnTest(_Drawn):
    """Test images, the same ones for every seed of a run."""

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        return self._batch((self.purpose,), indices)


@dataclass(frozen=True)
class WholeTest:
    """The images of a data set that must all be readable, with what to do where one is not.

    Attributes:
        data: The images.
        advice: A sentence that follows the name of the file and the reason.
    """

    data: TestData
    advice: str

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.data)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices, and their classes.

        Raises:
            DataError: A file cannot be read.
        """
        try:
            return self.data.batch(indices)
        except DataError as error:
            raise DataError(f"{error} {self.advice}") from error


# The class of an image that could not be read: no evaluation counts it.
NO_CLASS = -1


@dataclass(frozen=True)
class ReadableTest:
    """The images of a data set, where an unreadable one costs only itself.

    Without this the first unreadable image ends an evaluation. With it the image keeps its place in the
    batch, with the class -1 and pixels that mean nothing, so that the order is that of the data set; the
    sentence that names it is in `Batch.unreadable`.

    Attributes:
        data: The images. Those that can be read must do so each time.
    """

    data: TestData

    def __len__(self) -> int:
        """How many images there are, readable or not."""
        return len(self.data)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices; those that cannot be read have the class -1."""
        try:
            return self.data.batch(indices)
        except DataError:
            # One of them, so each is read by itself.
            pass
        read: dict[int, Batch] = {}
        why: list[str] = []
        for place, index in enumerate(indices.split(1)):
            try:
                read[place] = self.data.batch(index)
            except DataError as error:
                why.append(str(error))
        classes = torch.full((len(indices),), NO_CLASS)
        if not read:
            return Batch(torch.zeros(len(indices), 1, 1, 1), classes, tuple(why))
        kept = torch.tensor(list(read))
        found = torch.cat([batch.images for batch in read.values()])
        images = found.new_zeros(len(indices), *found.shape[1:])
        images[kept] = found
        classes[kept] = torch.cat([batch.targets for batch in read.values()])
        return Batch(images, classes, tuple(why))
