"""A fingerprint of data: what decides the meaning of a class's number, and on which images it was found."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

from lambdanets.data.differences import UNKNOWN_SIZE
from lambdanets.data.pseudo import MixedTraining
from lambdanets.data.sources import Source, Subset
from lambdanets.data.task import Task
from lambdanets.errors import DataError

# Files whose sizes are kept, about: asking for those of a million takes minutes on a network disk.
_FILES: Final = 1_000
_BLOCK: Final = 4096


def fingerprint_task(task: Task) -> dict[str, Any]:
    """Describe the data of a training by what can be compared, without reading an image.

    Classes in their order; of either part the number of images in all and of each class, a digest of the
    names and classes in their order, and the sizes of some files: they differ where the contents of two
    class folders are exchanged and the names are not. Where the images lie makes no difference.
    """
    train, pseudo = task.train, {}
    if isinstance(train, MixedTraining):
        pseudo = {"pseudo": {"images": len(train.pseudo), "digest": train.pseudo.digest}}
        train = train.labelled
    return {
        "classes": list(task.labels),
        "train": fingerprint_part(train, len(task.labels)),
        "test": fingerprint_part(task.test, len(task.labels)),
        **pseudo,
    }


def fingerprint_part(data: Any, num_classes: int) -> dict[str, Any]:
    """Describe some images: those of a source by its listing, made ones by their classes and pixels.

    Of a data set that has neither `source` nor `targets` only the number is known.

    Args:
        data: Training or test images.
        num_classes: How many classes there are, with and without images.
    """
    source = getattr(data, "source", data)
    part: dict[str, Any] = {"images": len(data)}
    targets = getattr(source, "targets", None)
    if not isinstance(targets, Tensor):
        return part
    digest = hashlib.sha256(_bytes(targets.numpy()))
    if isinstance(source, Source):
        part |= _listing(source, digest)
    elif isinstance(images := getattr(source, "images", None), Tensor):
        digest.update(_bytes(images.numpy()))
    by_class = targets[targets >= 0].bincount(minlength=num_classes)
    return {**part, "by_class": by_class.tolist(), "digest": digest.hexdigest()}


def _listing(source: Source, digest: Any) -> dict[str, Any]:
    """Let a digest take the names of a source, and all sizes that it knows; else give some files' sizes."""
    places: Sequence[int] = range(len(source))
    whole = source
    if isinstance(source, Subset):
        whole, places = source.source, source.indices.tolist()
    update_with_names(digest, map(whole.relative_name, places))
    known: np.ndarray | None = getattr(whole, "sizes", None)
    if known is not None:
        digest.update(_bytes(known[list(places)]))
        return {}
    size: Callable[[int], int] | None = getattr(whole, "size", None)
    if size is None:
        return {}
    return {"sizes": sample_sizes(len(places), len(source.labels), lambda index: size(places[index]))}


def update_with_names(digest: Any, names: Iterable[bytes]) -> None:
    """Let a digest take names in their order; no name of a file holds a zero byte."""
    left = iter(names)
    while block := list(itertools.islice(left, _BLOCK)):
        digest.update(b"\0".join(block) + b"\0")


def sample_sizes(num_files: int, num_classes: int, size: Callable[[int], int]) -> list[int]:
    """Ask for the sizes of some files, evenly spread; of each class two or more, where they are sorted.

    Args:
        num_files: How many files there are.
        num_classes: How many classes.
        size: Gives the bytes of one, or raises a `DataError`.
    """
    step = max(1, num_files // max(_FILES, 2 * num_classes))
    return [_size_of(size, index) for index in range(0, num_files, step)]


def _size_of(size: Callable[[int], int], index: int) -> int:
    try:
        return size(index)
    except DataError:
        return UNKNOWN_SIZE


def _bytes(numbers: np.ndarray) -> bytes:
    return numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()
