"""What a data set gives: batches, and images as functions of the epoch and the index."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

# Normalised numbers, or pixels as bytes that `Task.prepare` normalises where the network is.
Images = Float[Tensor, "b c height width"] | UInt8[Tensor, "b c height width"]

# The class of each image, or a share of every class.
Targets = Int[Tensor, " b"] | Float[Tensor, "b num_classes"]


class Batch(NamedTuple):
    """Images with what they show.

    Attributes:
        images: The images.
        targets: Their classes.
        unreadable: One sentence for each file that could not be read; another image stands in its place.
    """

    images: Images
    targets: Targets
    unreadable: tuple[str, ...] = ()


@runtime_checkable
class TrainingData(Protocol):
    """Images to train on, as pure functions of the epoch and the index."""

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
        """The images of these indices, and their classes.

        Raises:
            DataError: A file cannot be read; nothing stands in for it.
        """
        ...


@runtime_checkable
class Preprocessing(Protocol):
    """From any image file to what a network takes, as plain data for a checkpoint's JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the name of the method."""
        ...

    def read(self, path: Path, who: str = "predict") -> tuple[Float[Tensor, "c height width"], bool]:
        """The image of a file as the network takes it, and whether dark and light were exchanged.

        Raises:
            PathError: There is no such file.
            DataError: The file cannot be read.
        """
        ...

    def resized(self, size: int) -> "Preprocessing":
        """The same for an image of another size."""
        ...

    def shown(
        self, pixels: Float[Tensor, "c height width"]
    ) -> Float[np.ndarray, "height width"] | Float[np.ndarray, "height width 3"]:
        """What the network takes, between 0 and 1 again, to be drawn."""
        ...


def unprepared(images: Tensor) -> Tensor:
    """The images themselves: they come as the network takes them."""
    return images


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
        train: The training images.
        test: The test images.
        labels: The name of each class.
        in_channels: Channels of an image.
        preprocessing: From an image file to what the network takes; None where there can be none.
        prepare: From images of a batch to what the network takes, on its device.
        unlabelled: Images for pseudo-labels; None where the data set has none.
    """

    train: TrainingData
    test: TestData
    labels: tuple[str, ...]
    in_channels: int
    preprocessing: Preprocessing | None = None
    prepare: Callable[[Tensor], Tensor] = unprepared
    unlabelled: Unlabelled | None = None
