"""Shards: images in tar archives of WebDataset's form, each read at its place in them."""

import glob
import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.folders import read_class_names
from lambdanets.data.listing import composed
from lambdanets.data.shard_index import Label, Stamp, read_index, stamp_of
from lambdanets.data.sources import PackedNames
from lambdanets.data.tar_members import read_at
from lambdanets.errors import DataError, PathError
from lambdanets.reading import UnreadableError, open_regular
from lambdanets.text import printable

# Open files of one set of shards at most; a process has also others.
_MOST_OPEN: Final = 512
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_IN_A_RANGE: Final = 1_000_000
_MOST_PATTERNS: Final = 1_000


class ShardSource:
    """Encoded images in shards, in the order of the shards' names and of the members in them.

    A shard is an uncompressed tar archive. Members whose names are equal up to the first dot of their last
    part belong together: an image (`.jpg`, `.png`, …) and its class, in `.cls` (a number, or a name) or in
    `.json` (`{"label": …}`). Where each image is comes from an index that is made once, so images are
    read in any order, by any number of processes, and each index is one image whoever asks.

    Names of classes are in `classes.txt` (one a line) or `classes.json` beside the shards, in root. Without
    them they are what the images say: numbers in their order, or names in theirs.

    Args:
        root: The folder that `pattern` is below.
        pattern: A folder with `*.tar`, or names with `*`, `?` or ranges as `train-{0000..0019}.tar`.
        labels: The names of the classes, where another part of the data has decided them.

    Raises:
        PathError: There are no such shards.
        DataError: A shard is damaged or not to be trusted, or has a class that is none of `labels`.

    Attributes:
        shards: The archives, in their order.
        labels: The name of each class.
        targets: The class of each image, " n", int64.
        sizes: The bytes of each image.
    """

    labels: tuple[str, ...]
    targets: Int[Tensor, " n"]

    def __init__(self, root: Path, pattern: str, labels: tuple[str, ...] | None = None) -> None:
        paths = _find_shards(root, pattern)
        indexes = [read_index(path) for path in paths]
        counts = [len(index.names) for index in indexes]
        if not sum(counts):
            raise DataError(f"shards: {root / pattern} must hold images, got {len(paths)} shards with none.")
        self.shards = paths
        self._stamps = [index.stamp for index in indexes]
        self._shard = np.repeat(np.arange(len(paths), dtype=np.int32), counts)
        self._offsets = np.concatenate([np.array(index.offsets, dtype=np.int64) for index in indexes])
        self.sizes = np.concatenate([np.array(index.sizes, dtype=np.int64) for index in indexes])
        self._names = PackedNames(
            # An index that somebody made may hold what UTF-8 does not.
            name.encode("utf-8", "backslashreplace")
            for index in indexes
            for name in index.names
        )
        found = [label for index in indexes for label in index.labels]
        if labels:
            found = [printable(label) if isinstance(label, str) else label for label in found]
        names = read_class_names(root)
        # Numbers in their order, then names in theirs.
        distinct = sorted(set(found), key=lambda label: (isinstance(label, str), label))
        spelled: dict[str, str] = {}
        for label in map(str, distinct):
            spelled.setdefault(composed(label), label)
        self.labels = names or labels or tuple(spelled.values())
        self.targets = torch.tensor(self._classes(found, are_indices=names is not None), dtype=torch.int64)
        # Their order is that of the names as they are; what a name holds is data from here on.
        self.labels = tuple(map(printable, self.labels))
        self._opened = lru_cache(_most_open())(_OpenShard)

    def __len__(self) -> int:
        return len(self._offsets)

    def name(self, index: int) -> str:
        """The name of an image, for messages: `train-0003.tar: 00000042.jpg`."""
        return f"{self.shards[self._shard[index]].name}: {printable(self._names[index])}"

    def relative_name(self, index: int) -> bytes:
        """The name of a shard and that of an image in it, as in `name`."""
        return self.name(index).encode()

    def size(self, index: int) -> int:
        """How many bytes an image has."""
        return int(self.sizes[index])

    def read(self, index: int) -> bytes:
        """The encoded bytes of an image.

        Raises:
            DataError: They cannot be had, or the shard is another than when it was indexed.
        """
        size = self.size(index)
        try:
            shard = int(self._shard[index])
            opened = self._opened(self.shards[shard], self._stamps[shard])
            content = read_at(opened.descriptor, int(self._offsets[index]), size)
        except DataError as error:
            raise DataError(f"{self.name(index)}: {error}") from error
        except UnreadableError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error}.") from error
        except OSError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error.strerror}.") from error
        if len(content) < size:
            raise DataError(f"{self.name(index)}: must have {size:,} bytes, got {len(content):,}.")
        return content

    def __getstate__(self) -> dict[str, Any]:
        """Everything but open files: another process opens its own."""
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._opened = lru_cache(_most_open())(_OpenShard)

    def _classes(self, found: list[Label], *, are_indices: bool) -> list[int]:
        """The class of each image; a number is an index where the classes have names of their own."""
        classes = {composed(name): index for index, name in enumerate(self.labels)}

        def class_of(label: Label) -> int | None:
            if are_indices and isinstance(label, int):
                return label if label < len(classes) else None
            return classes.get(composed(str(label)))

        known = {label: class_of(label) for label in set(found)}
        for index, label in enumerate(found):
            if known[label] is None:
                first, last = self.labels[0], self.labels[-1]
                raise DataError(
                    f"shards: {self.name(index)} must be of one of {len(classes)} classes ('{first}' to"
                    f" '{last}'), got {label!r}."
                )
        return [known[label] or 0 for label in found]


def _find_shards(root: Path, pattern: str) -> list[Path]:
    """The shards that a pattern below root stands for, by name."""
    if not root.is_dir():
        raise PathError(f"shards: root must be a folder, got {str(root) or repr('')}, which is none.")
    names = _expanded(pattern)
    if len(names) > _MOST_PATTERNS and glob.has_magic(pattern):
        raise PathError(
            f"shards: ranges of {pattern!r} must stand for at most {_MOST_PATTERNS:,} names beside * and ?,"
            f" got {len(names):,}. Each is looked for among all files: use * alone."
        )
    if len(names) == 1 and (root / names[0]).is_dir():
        names = [f"{glob.escape(names[0])}/*.tar"]
    paths: list[Path] = []
    for name in names:
        # Unlike `Path.glob` it takes what begins with a slash.
        matching = sorted(root / match for match in glob.glob(name, root_dir=root))  # noqa: PTH207
        if not matching:
            raise PathError(f"shards: {root / pattern} must be there, got no {root / name}.")
        paths += matching
    return list(dict.fromkeys(paths))


def _expanded(pattern: str) -> list[str]:
    """The names that ranges stand for; `{00..12}` has as many digits as its first number."""
    texts = _RANGE.split(pattern)
    ranges = [range(int(first), int(last) + 1) for first, last in zip(texts[1::3], texts[2::3], strict=True)]
    count = math.prod(max(one.stop - one.start, 0) for one in ranges)
    if not 0 < count <= _MOST_IN_A_RANGE:
        raise PathError(
            f"shards: ranges of {pattern!r} must stand for 1 to {_MOST_IN_A_RANGE:,} names, got {count:,}."
        )
    names = [texts[0]]
    for first, numbers, text in zip(texts[1::3], ranges, texts[3::3], strict=True):
        names = [f"{name}{number:0{len(first)}}{text}" for name in names for number in numbers]
    return names


def _most_open() -> int:
    """A quarter of what a process may open, so that others find room."""
    allowed = os.sysconf("SC_OPEN_MAX")
    return min(_MOST_OPEN, max(1, allowed // 4)) if allowed > 0 else _MOST_OPEN


class _OpenShard:
    """A shard that is open as long as somebody holds this."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self.descriptor, status = open_regular(path)
        # A run goes on where somebody links to its shards or changes their mode.
        if stamp_of(status).content != stamp.content:
            raise DataError("its shard must stay as it was indexed, got another size or time.")

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)
