"""Folders of image files, label files for flat ones, and files with the names of classes."""

import csv
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.layout import images_of
from lambdanets.data.listing import Entries, list_classes, list_files
from lambdanets.data.sources import PackedNames, read_file
from lambdanets.errors import DataError, PathError
from lambdanets.text import from_cell, printable


class _LabelLine(NamedTuple):
    """One line of a label file: an image, its class, and the place in the file for messages."""

    path: str
    label: str
    where: str


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderSource:
    """The image files of a folder, in the order of their classes and paths.

    Attributes:
        folder: The folder.
        labels: The name of each class.
        targets: The class of each image.
        paths: Path of each image, relative to the folder.
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
    entries = list_classes(folder) if label_file is None else _by_file(folder, label_file)
    images = images_of(folder, entries, labels)
    classes = labels or tuple(dict.fromkeys(label for label, _ in images))
    numbers = {label: number for number, label in enumerate(classes)}
    return FolderSource(
        folder=folder,
        labels=classes,
        targets=torch.tensor([numbers[label] for label, _ in images], dtype=torch.int64),
        paths=PackedNames(path for _, path in images),
    )


def _by_file(folder: Path, label_file: Path) -> Entries:
    present = set(list_files(os.fsencode(folder), b""))
    entries: Entries = []
    first: dict[bytes, str] = {}
    for line in _read_label_file(label_file):
        try:
            path = os.path.normpath(line.path.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            # JSON can spell names that no file has.
            path = b""
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
        entries.append((printable(line.label), path))
    return sorted(entries)


_PATHS = ("path", "file")


def _read_label_file(path: Path) -> list[_LabelLine]:
    """Read a label file.

    CSV: two columns, path and label, or a header that names them (`path` or `file`, and `label`; others are
    skipped). JSON: an object from path to label, or a list of objects with those names.
    """
    if not path.is_file():
        raise PathError(f"folder: label file must be a file, got {path}, which does not exist.")
    if path.suffix.lower() not in (".csv", ".json"):
        raise DataError(f"folder: label file must end with .csv or .json, got {path}.")
    try:
        # Names of files may be no UTF-8: their bytes make the trip.
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        parse = _from_json if path.suffix.lower() == ".json" else _from_csv
        lines = list(parse(text, path))
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"folder: {path} cannot be read as a label file: {error}.") from error
    if not lines:
        raise DataError(f"folder: {path} must give at least one image its label, got none.")
    return lines


def _from_csv(text: str, file: Path) -> Iterator[_LabelLine]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[int, int] | None = None
    for row in rows:
        where = f"{file}, line {rows.line_num}"
        if not row:
            continue
        if columns is None:
            header = [cell.strip().lower() for cell in row]
            paths = [header.index(name) for name in _PATHS if name in header]
            if paths and "label" in header:
                columns = (paths[0], header.index("label"))
                continue
            columns = (-1, -1)
        if columns == (-1, -1) and len(row) != 2:
            raise DataError(f"folder: {where} must have two columns, path and label, got {len(row)}.")
        if len(row) <= max(columns):
            raise DataError(f"folder: {where} must have as many columns as the header, got {len(row)}.")
        path, label = row if columns == (-1, -1) else (row[columns[0]], row[columns[1]])
        yield _line(from_cell(path), from_cell(label), where)


def _from_json(text: str, file: Path) -> Iterator[_LabelLine]:
    # Pairs keep a path that is named twice, which a dictionary would swallow.
    content = json.loads(text, object_pairs_hook=tuple)
    if isinstance(content, tuple):
        for path, label in content:
            yield _line(path, label, f"{file}, entry {path!r}")
    elif isinstance(content, list):
        for number, entry in enumerate(content, start=1):
            where = f"{file}, entry {number}"
            fields = dict(entry) if isinstance(entry, tuple) else {}
            path = next((fields[name] for name in _PATHS if name in fields), None)
            yield _line(path, fields.get("label"), where)
    else:
        raise DataError(f"folder: {file} must hold an object or a list, got {content!r}.")


def _line(path: Any, label: Any, where: str) -> _LabelLine:
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(path, str) or not path or not isinstance(label, str) or not label.strip():
        raise DataError(
            f"folder: {where} must give a path and a label (a text or a whole number), got"
            f" {path!r} and {label!r}."
        )
    return _LabelLine(path, label.strip(), where)


def read_class_names(root: Path) -> tuple[str, ...] | None:
    """The names in `classes.txt` (one a line) or `classes.json` (a list, or name to number); else None.

    Raises:
        DataError: The file is none of these, or has a name twice.
    """
    for file in (root / "classes.txt", root / "classes.json"):
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"classes: {file} must be a text in UTF-8, got '{error}'.") from error
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
    file.write_text(text + "\n", encoding="utf-8")
    return file


def _json(text: str) -> list[str]:
    try:
        names: Any = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if isinstance(names, dict):
        numbers = list(names.values())
        if sorted(map(str, numbers)) != sorted(map(str, range(len(names)))):
            return []
        names = sorted(names, key=lambda name: int(names[name]))
    return names if isinstance(names, list) and all(isinstance(name, str) and name for name in names) else []
