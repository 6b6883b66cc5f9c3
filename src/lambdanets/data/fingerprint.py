"""A fingerprint of data: what decides the meaning of a class's number, and on which images it was found."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

from lambdanets.data.layout import listed
from lambdanets.data.pseudo import MixedTraining
from lambdanets.data.sources import Source, Subset
from lambdanets.data.task import Task
from lambdanets.errors import DataError
from lambdanets.text import printable

# Files whose sizes are kept, about: asking for those of a million takes minutes on a network disk.
_FILES: Final = 1_000
# The size of a file that cannot be read now.
UNKNOWN_SIZE: Final = -1
_BLOCK: Final = 4096
_LISTED: Final = 3


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


def data_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Compare two fingerprints: one of `DATA_NAMES` -> what differs, in words."""
    changes = {}
    if classes := _class_changes(old["classes"], new["classes"]):
        changes["data.classes"] = classes
    named = [(old["classes"], old), (new["classes"], new)]
    parts = {
        part: part_changes(*(({**one[part]}, classes) for classes, one in named))
        for part in ("train", "test")
    }
    if images := "; ".join(f"{part}: {text}" for part, text in parts.items() if text):
        changes["data.images"] = images
    if old.get("pseudo") != new.get("pseudo"):
        counts = [(one.get("pseudo") or {"images": 0})["images"] for one in (old, new)]
        changes["data.pseudo"] = f"{counts[0]:,} -> {counts[1]:,} pseudo-labels, others"
    return changes


def _class_changes(old: Sequence[str], new: Sequence[str]) -> str:
    """Say which classes have other numbers; empty where none has."""
    if list(old) == list(new):
        return ""
    before, after = ({name: number for number, name in enumerate(names)} for names in (old, new))
    moved = [
        f"{printable(name)} was {before[name]} and is {after[name]}"
        for name in new
        if name in before and before[name] != after[name]
    ]
    gone, added = (
        [name for name in one if name not in other] for one, other in ((old, after), (new, before))
    )
    texts = [f"{len(old)} -> {len(new)} classes"] if len(old) != len(new) else []
    texts += [f"gone {listed(gone)}"] if gone else []
    texts += [f"new {listed(added)}"] if added else []
    texts += moved[:_LISTED] + ([f"{len(moved) - _LISTED} more moved"] if len(moved) > _LISTED else [])
    return ", ".join(texts) or "other names"


_Part = tuple[Mapping[str, Any], Sequence[str]]


def part_changes(old: _Part, new: _Part) -> str:
    """Say how some images differ from others; empty where they do not, or nothing is known.

    Args:
        old: The fingerprint of the images, and the names of the classes.
        new: The same of the others.
    """
    (before, old_classes), (after, new_classes) = old, new
    counts = [f"{one['images']:,}" for one in (before, after)]
    texts = [f"{' -> '.join(counts)} images"] if counts[0] != counts[1] else []
    if before.get("by_class") is not None and after.get("by_class") is not None:
        texts += _count_changes(
            dict(zip(old_classes, before["by_class"], strict=False)),
            dict(zip(new_classes, after["by_class"], strict=False)),
            " objects" if "objects" in after else "",
        )
    if texts:
        return ", ".join(texts)
    digests = {one["digest"] for one in (before, after) if one.get("digest")}
    if len(digests) > 1:
        return "equal counts, other names or sizes, or another order"
    return _size_changes(before.get("sizes") or (), after.get("sizes") or ())


def _count_changes(before: Mapping[str, int], after: Mapping[str, int], unit: str) -> list[str]:
    differences = {name: after.get(name, 0) - before.get(name, 0) for name in {**before, **after}}
    changed = [f"{printable(name)} {by:+,}{unit}" for name, by in differences.items() if by]
    more = len(changed) - _LISTED
    return changed[:_LISTED] + ([f"{more:,} more classes"] if more > 0 else [])


def _size_changes(before: Sequence[int], after: Sequence[int]) -> str:
    """Say of how many files the sizes differ; those that cannot be read are not compared."""
    pairs = [pair for pair in zip(before, after, strict=False) if UNKNOWN_SIZE not in pair]
    other = sum(1 for old, new in pairs if old != new)
    return f"equal names, other sizes of {other:,} of {len(pairs):,} files" if other else ""
