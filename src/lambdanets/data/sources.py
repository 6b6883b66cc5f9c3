"""Sources of images from files: encoded bytes with classes, and what every source needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.listing import image_key, set_aside
from lambdanets.errors import ArgumentError, DataError
from lambdanets.reading import UnreadableError, read_bytes

# A larger file is no image that is allowed: 61 million pixels of three bytes are 183 MB.
MAX_BYTES: Final = 2**28


@runtime_checkable
class Source(Protocol):
    """Encoded images in a fixed order, with their classes.

    A source can be pickled, for worker processes, and opens files when they are first read.

    Attributes:
        labels: The name of each class.
        targets: The class of each image.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def targets(self) -> Int[Tensor, " n"]: ...  # noqa: D102

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def name(self, index: int) -> str:
        """The name of an image, for messages: a path, or `shard-000.tar: n01/x.jpg`."""
        ...

    def relative_name(self, index: int) -> bytes:
        """The name of an image inside its part of the data, the same wherever the data lie."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded bytes of an image.

        Raises:
            DataError: They cannot be had; the message begins with the image's name.
        """
        ...


@dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a source.

    Attributes:
        source: The source.
        indices: Which of its images, in their order here.
    """

    source: Source
    indices: Int[Tensor, " n"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class of the whole source."""
        return self.source.labels

    @cached_property
    def targets(self) -> Int[Tensor, " n"]:
        """The class of each image."""
        return self.source.targets[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """The name of an image, for messages."""
        return self.source.name(int(self.indices[index]))

    def relative_name(self, index: int) -> bytes:
        """The name of an image inside its part of the data."""
        return self.source.relative_name(int(self.indices[index]))

    def read(self, index: int) -> bytes:
        """The encoded bytes of an image."""
        return self.source.read(int(self.indices[index]))


class PackedNames:
    """Many short names in two arrays.

    A list of a million strings would, string by string, be copied into every worker process that reads it.
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        listed = list(names)
        self._text = b"".join(listed)
        self._ends = np.cumsum([0, *map(len, listed)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return self._text[self._ends[index] : self._ends[index + 1]]


def holdout_split(source: Source, fraction: float) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Cut the images of a source in two: those to train with, and those that are set aside.

    What is set aside follows from the class and the name of each image, as `set_aside` says: it is the same
    in every run, wherever the data lie, and stays when images are added.

    Args:
        source: The images.
        fraction: Which part of them is set aside, about.

    Returns:
        The indices of both, in their order.

    Raises:
        ArgumentError: One side would be empty.
    """
    labels, targets = source.labels, source.targets.tolist()
    names = [image_key(labels[target], source.relative_name(index)) for index, target in enumerate(targets)]
    aside = torch.tensor(set_aside(names, targets, fraction), dtype=torch.bool)
    if aside.all() or not aside.any():
        raise ArgumentError(
            f"holdout_split: fraction must leave images on both sides, got {fraction:g} of {len(names)}."
        )
    return torch.nonzero(~aside)[:, 0], torch.nonzero(aside)[:, 0]


def read_file(path: bytes, name: str) -> bytes:
    """Read a whole file: a regular one of an image's size.

    Raises:
        DataError: It cannot be read; the message begins with the name.
    """
    try:
        return read_bytes(path, limit=MAX_BYTES)
    except UnreadableError as error:
        raise DataError(f"{name}: cannot be read: {error}.") from error
