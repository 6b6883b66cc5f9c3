"""Folders of image files, label files for flat ones, and files with the names of classes."""

import json
import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.layout import images_of, list_part
from lambdanets.data.left_out import LeftOut
from lambdanets.data.sources import PackedNames, read_file
from lambdanets.errors import DataError, PathError
from lambdanets.files import replace_file
from lambdanets.reading import UnreadableError, parse_json, read_text, reading
from lambdanets.text import printable


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderSource:
    """The image files of a folder, in the order of their classes and paths.

    Attributes:
        folder: The folder.
        labels: The name of each class.
        targets: The class of each image.
        paths: Path of each image, relative to the folder.
        left_out: The files of the folder that are no images of these.
    """

    folder: Path
    labels: tuple[str, ...]
    targets: Int[Tensor, " n"]
    paths: PackedNames
    left_out: LeftOut

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image."""
        return printable(self._path(index))

    def relative_name(self, index: int) -> bytes:
        """The path of an image inside the folder."""
        return self.paths[index]

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            DataError: They cannot be read.
        """
        return read_file(self._path(index), self.name(index))

    def size(self, index: int) -> int:
        """How many bytes an image has.

        Raises:
            DataError: It is no file, or cannot be read.
        """
        path = self._path(index)
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error.strerror}.") from error
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{self.name(index)}: must be a file, got a folder, a pipe or a device.")
        if not os.access(path, os.R_OK):
            raise DataError(f"{self.name(index)}: cannot be read: Permission denied.")
        return status.st_size

    def _path(self, index: int) -> bytes:
        return os.path.join(os.fsencode(self.folder), self.paths[index])  # noqa: PTH118


def open_folder(
    folder: Path, *, label_file: Path | None = None, labels: tuple[str, ...] | None = None
) -> FolderSource:
    """List the images of a folder.

    Without a label file, each folder inside is a class, and its images may lie in further folders. Names
    that begin with a dot are skipped. Files that cannot be read are listed too: reading them shows it.

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
    listing = list_part(folder, label_file)
    images = images_of(folder, listing, labels)
    classes = labels or tuple(dict.fromkeys(label for label, _ in images))
    numbers = {label: number for number, label in enumerate(classes)}
    return FolderSource(
        folder=folder,
        labels=classes,
        targets=torch.tensor([numbers[label] for label, _ in images], dtype=torch.int64),
        paths=PackedNames(path for _, path in images),
        left_out=listing.left_out,
    )


def read_class_names(root: Path) -> tuple[str, ...] | None:
    """The names in `classes.txt` (one a line) or `classes.json` (a list, or name to number); else None.

    Raises:
        DataError: The file is none of these, or has a name twice.
    """
    for file in (root / "classes.txt", root / "classes.json"):
        if not os.path.lexists(file):
            continue
        with reading("classes", file, "be a text in UTF-8"):
            text = read_text(file)
        if file.suffix == ".json":
            names = _json(text)
        else:
            names = [line.strip() for line in text.split("\n") if line.strip()]
        if not names:
            raise DataError(
                f"classes: {file} must hold the name of each class: one a line in classes.txt; in"
                " classes.json a list of them, or an object from each name to its number from 0."
            )
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise DataError(f"classes: {file} must hold each name once, got {name!r} {count} times.")
        return tuple(names)
    return None


def write_class_names(root: Path, labels: tuple[str, ...]) -> Path:
    """Write `classes.txt`, or `classes.json` where a line cannot hold a name.

    Returns:
        The file.
    """
    if any(label != label.strip() or len(label.splitlines()) != 1 for label in labels):
        file, text = root / "classes.json", json.dumps(list(labels), indent=0)
    else:
        file, text = root / "classes.txt", "\n".join(labels)
    replace_file(file, f"{text}\n".encode("utf-8", "surrogateescape"), "write_class_names")
    return file


def _json(text: str) -> list[str]:
    try:
        names: Any = parse_json(text)
    except UnreadableError:
        return []
    if isinstance(names, dict):
        numbers = list(names.values())
        if sorted(map(str, numbers)) != sorted(map(str, range(len(names)))):
            return []
        names = sorted(names, key=lambda name: int(names[name]))
    return names if isinstance(names, list) and all(isinstance(name, str) and name for name in names) else []
