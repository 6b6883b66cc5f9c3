"""Label files: CSV or JSON that gives each image of a flat folder its class."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lambdanets.errors import DataError, PathError

_PATHS = ("path", "file")


class LabelLine(NamedTuple):
    """What a label file says of one image.

    Attributes:
        path: Of the image, relative to its folder.
        label: Its class.
        where: The place in the label file, for messages.
    """

    path: str
    label: str
    where: str


def read_label_file(path: Path) -> list[LabelLine]:
    """Read a label file.

    CSV: two columns, path and label, or a header that names them (`path` or `file`, and `label`; others are
    passed over). JSON: an object from path to label, or a list of objects with those names.

    Raises:
        PathError: There is no such file.
        DataError: It cannot be understood, or says something of no image.
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


def _from_csv(text: str, file: Path) -> Iterator[LabelLine]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[int, int] | None = None
    for row in rows:
        where = f"{file}, line {rows.line_num}"
        if not row:
            continue
        if columns is None:
            columns = _columns([cell.strip().lower() for cell in row])
            if columns != (-1, -1):
                continue
        if columns == (-1, -1) and len(row) != 2:
            raise DataError(f"folder: {where} must have two columns, path and label, got {len(row)}.")
        if len(row) <= max(columns):
            raise DataError(f"folder: {where} must have as many columns as the header, got {len(row)}.")
        path, label = row if columns == (-1, -1) else (row[columns[0]], row[columns[1]])
        yield _line(path, label, where)


def _columns(header: list[str]) -> tuple[int, int]:
    """Which columns are path and label; minus one for both where the row is no header."""
    paths = [header.index(name) for name in _PATHS if name in header]
    return (paths[0], header.index("label")) if paths and "label" in header else (-1, -1)


def _from_json(text: str, file: Path) -> Iterator[LabelLine]:
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


def _line(path: Any, label: Any, where: str) -> LabelLine:
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(path, str) or not path or not isinstance(label, str) or not label.strip():
        raise DataError(
            f"folder: {where} must give a path and a label (a text or a whole number), got"
            f" {path!r} and {label!r}."
        )
    return LabelLine(path, label.strip(), where)
