"""Folders of image files: a folder for each class, or a flat one with a label file."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.label_files import LabelLine, read_label_file
from lambdanets.data.sources import PackedNames, printable, read_file
from lambdanets.errors import DataError, PathError, did_you_mean

# Endings of the formats that `images.FORMATS` allows.
ENDINGS: Final = (
    *(b".avif", b".bmp", b".gif", b".ico", b".jp2", b".jpeg", b".jpg", b".pbm", b".pcx", b".pgm", b".png"),
    *(b".ppm", b".tga", b".tif", b".tiff", b".webp"),
)

# Class and path, both as they stand in the file system.
Found = list[tuple[str, bytes]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderSource:
    """The image files of a folder, in the order of their classes and paths.

    Attributes:
        folder: The folder.
        labels: The name of each class.
        targets: The class of each image.
        paths: Of each image, relative to the folder.
    """

    folder: Path
    labels: tuple[str, ...]
    targets: Int[Tensor, " n"]
    paths: PackedNames

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image."""
        return printable(self._path(index))

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            DataError: They cannot be read.
        """
        return read_file(self._path(index), self.name(index))

    def _path(self, index: int) -> bytes:
        return os.path.join(os.fsencode(self.folder), self.paths[index])  # noqa: PTH118


def open_folder(
    folder: Path, *, label_file: Path | None = None, labels: tuple[str, ...] | None = None
) -> FolderSource:
    """List the images of a folder.

    Without a label file, each folder inside is a class, and its images may lie in further folders. Names
    that begin with a dot are passed over. What cannot be read is listed too: that shows when it is read.

    Args:
        folder: The folder.
        label_file: Gives each of its images a class.
        labels: The classes, where others decide them: a test has those of the training. None: those that are
            found, sorted by their names.

    Raises:
        PathError: There is no such folder or label file.
        DataError: There are no images, a class has none, a class is not among `labels`; the label file
            cannot be understood, or names an image that is not there, or one twice.
    """
    if not folder.is_dir():
        raise PathError(f"folder: {folder} must be a folder, got none.")
    found = _by_folders(folder) if label_file is None else _by_file(folder, label_file)
    classes = labels or _classes(folder, found)
    numbers = {label: number for number, label in enumerate(classes)}
    unknown = sorted({label for label, _ in found} - numbers.keys())
    if unknown:
        near = did_you_mean(unknown[0], classes)
        raise DataError(
            f"folder: {folder} must have classes of the training alone, got {_listed(unknown)}.{near}"
        )
    images = [(label, path) for label, path in found if path]
    if not images:
        raise DataError(f"folder: {folder} must hold images, got none in {len(found)} class folders.")
    return FolderSource(
        folder=folder,
        labels=classes,
        targets=torch.tensor([numbers[label] for label, _ in images], dtype=torch.int64),
        paths=PackedNames(path for _, path in images),
    )


def _classes(folder: Path, found: Found) -> tuple[str, ...]:
    """The classes that are found, in their order, each with at least one image."""
    counts = Counter({label: 0 for label, _ in found})
    counts.update(label for label, path in found if path)
    empty = [label for label, count in counts.items() if not count]
    if empty and len(empty) < len(counts):
        raise DataError(f"folder: each class of {folder} must have images, got none in {_listed(empty)}.")
    return tuple(counts)


def _by_folders(folder: Path) -> Found:
    """The images of each class folder; a class without any stands there once, without a path."""
    root = os.fsencode(folder)
    names = [entry.name for entry in _entries(root) if _is_folder(entry)]
    if not names:
        raise DataError(
            f"folder: {folder} must hold a folder for each class, got none. A flat folder needs a label file:"
            " --data.train-labels and --data.test-labels."
        )
    shown = Counter(map(printable, names))
    if len(shown) < len(names):
        twice = [label for label, count in shown.items() if count > 1]
        raise DataError(f"folder: classes of {folder} must have names of their own, got twice {twice[0]!r}.")
    found: Found = []
    for name in names:
        label = printable(name)
        paths = [path for path in _files(root, name) if path.lower().endswith(ENDINGS)]
        found += [(label, path) for path in paths or [b""]]
    return found


def _by_file(folder: Path, label_file: Path) -> Found:
    present = set(_files(os.fsencode(folder), b""))
    found: Found = []
    first: dict[bytes, str] = {}
    for line in read_label_file(label_file):
        path = _normal(line)
        if path not in present:
            raise DataError(
                f"folder: {line.where} must name a file of {folder}, got {printable(line.path)!r}, which is"
                " not there."
            )
        if path in first:
            raise DataError(
                f"folder: {line.where} must name an image once, got {printable(line.path)!r} again, which"
                f" {first[path]} names."
            )
        first[path] = line.where
        found.append((printable(line.label), path))
    return sorted(found)


def _normal(line: LabelLine) -> bytes:
    try:
        return os.path.normpath(line.path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        # JSON can spell names that no file has.
        return b""


def _files(root: bytes, inside: bytes, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[bytes]:
    """All files of a folder and of the folders in it, each folder's own first, relative to the root."""
    folder = os.path.join(root, inside)  # noqa: PTH118
    status = os.stat(folder)  # noqa: PTH116
    here = (status.st_dev, status.st_ino)
    # A link that leads back up would be followed for ever.
    if here in above:
        return
    folders = []
    prefix = inside and inside + b"/"
    for entry in _entries(folder):
        path = prefix + entry.name
        if _is_folder(entry):
            folders.append(path)
        else:
            yield path
    for path in folders:
        yield from _files(root, path, above | {here})


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(b".")]
    except OSError as error:
        raise DataError(f"folder: {printable(folder)} cannot be listed: {error.strerror}.") from error
    return sorted(shown, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself.
        return False


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
