"""Sources of images from files: encoded bytes with classes, and what every source needs."""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.errors import ArgumentError, DataError

# A larger file is no image that is allowed: 61 million pixels of three bytes are 183 MB.
MAX_BYTES: Final = 2**28

# Control characters would break the line of a log; they are written as Python writes them.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


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


def holdout_split(num: int, fraction: float) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Cut indices in two: those to train with, and those that are set aside.

    The latter are spread evenly over the order, so that sorted classes give each its share. Nothing is drawn:
    every run sets the same images aside.

    Args:
        num: How many images there are.
        fraction: Which part of them is set aside.

    Raises:
        ArgumentError: One side would be empty.
    """
    num_test = round(fraction * num)
    if not 0 < num_test < num:
        raise ArgumentError(
            f"holdout_split: fraction must leave images on both sides, got {fraction:g} of {num}."
        )
    aside = torch.zeros(num, dtype=torch.bool)
    # The middle of each of num_test equal parts, in whole numbers.
    aside[(2 * torch.arange(num_test) + 1) * num // (2 * num_test)] = True
    return torch.nonzero(~aside)[:, 0], torch.nonzero(aside)[:, 0]


def printable(name: str | bytes) -> str:
    r"""A name as it can be printed and stored: bytes that are no UTF-8 become `\xe9`."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    return text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS)


def read_file(path: bytes, name: str) -> bytes:
    """Read a whole file: a regular one of an image's size.

    Raises:
        DataError: It cannot be read; the message begins with the name.
    """
    try:
        # A pipe without a writer would otherwise be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{name}: must be a file, got a folder, a pipe or a device.")
            if status.st_size > MAX_BYTES:
                raise DataError(f"{name}: must have at most {MAX_BYTES:,} bytes, got {status.st_size:,}.")
            return open(descriptor, "rb", buffering=0, closefd=False).read()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}.") from error
