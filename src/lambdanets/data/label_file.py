"""Label files: tables and JSON that give each image of a flat folder its class, as people write them."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lambdanets.data.formats import ENDINGS, is_image
from lambdanets.data.left_out import LeftOut, Reason
from lambdanets.data.listing import Entries, Listing, composed, list_files
from lambdanets.errors import DataError, PathError
from lambdanets.reading import UnreadableError, read_text
from lambdanets.text import from_cell, printable

_KINDS: Final = (".csv", ".tsv", ".txt", ".json")

# Headings of the two columns, the likeliest first, in small letters without blanks and underscores.
_PATHS: Final = (
    *(
        "path",
        "file",
        "filename",
        "filepath",
        "image",
        "imagepath",
        "imagename",
        "imagefile",
        "imagefilename",
    ),
    *("img", "imgpath", "imgname", "imageid", "photo", "name", "id"),
)
_LABELS: Final = (
    *("label", "class", "category", "target", "labelname", "classname", "categoryname", "labels", "classes"),
    *("classid", "labelid", "categoryid", "targets", "species", "breed", "tag", "y"),
)
_NEEDED: Final = "a column of paths (path, file, file_name, image, …) and one of labels (label, class, …)"

# Lines by which the separator is found.
_LOOKED_AT: Final = 50
_BLANKS: Final = " "

# Classes are names or whole numbers: a fraction shows another column, or a table program's rounding.
_FRACTION: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


class _LabelLine(NamedTuple):
    """One line of a label file: an image, its class, and the place in the file for messages."""

    path: str
    label: str
    where: str


def list_labelled(folder: Path, label_file: Path) -> Listing:
    """List the images of a folder that a label file names.

    Raises:
        PathError: There is no such file.
        DataError: It cannot be understood, or names an image that is not there, or one twice.
    """
    left_out = LeftOut()
    present = _Present(folder, left_out)
    entries: Entries = []
    first: dict[bytes, str] = {}
    for number, line in enumerate(_read_label_file(label_file)):
        path = present.find(line.path)
        if path is None:
            hint = "" if number else f" If this is a heading, it must name {_NEEDED}."
            raise DataError(
                f"folder: {line.where} must name a file of {folder}, got {printable(line.path)!r}, which is"
                f" not there.{hint}"
            )
        if path in first:
            raise DataError(
                f"folder: {line.where} must name an image once, got {printable(line.path)!r} again, which"
                f" {first[path]} names."
            )
        first[path] = line.where
        entries.append((printable(line.label), path))
    for path in present.paths - first.keys():
        if is_image(path):
            left_out.add(Reason.UNNAMED, printable(os.path.splitext(path)[1].lower()), "")  # noqa: PTH122
    left_out.num_listed = len(entries)
    return Listing(_with_one_spelling(entries), left_out)


def _with_one_spelling(entries: Entries) -> Entries:
    """Sort the images by class, each class as it was spelled first."""
    spelled: dict[str, str] = {}
    return sorted((spelled.setdefault(composed(label), label), path) for label, path in entries)


class _Present:
    """The files of a folder, found by what label files call them."""

    def __init__(self, folder: Path, left_out: LeftOut) -> None:
        self.paths = set(list_files(os.fsencode(folder), left_out))
        self._by_name: dict[str, bytes] | None = None

    def find(self, name: str) -> bytes | None:
        """The path of a file: as it is written; with other slashes or accents, or without its ending."""
        try:
            path = os.path.normpath(name.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            # JSON can spell names that no file has.
            return None
        if path in self.paths:
            return path
        if self._by_name is None:
            self._by_name = self._named()
        plain = os.path.normpath(name.strip().replace("\\", "/"))
        return self._by_name.get(composed(plain))

    def _named(self) -> dict[str, bytes]:
        """Path of each file by its name, and without its ending where no other is left."""
        named: dict[str, bytes] = {}
        stems: dict[str, list[bytes]] = {}
        for path in sorted(self.paths):
            name = composed(os.fsdecode(path))
            named.setdefault(name, path)
            if path.lower().endswith(ENDINGS):
                stems.setdefault(os.path.splitext(name)[0], []).append(path)  # noqa: PTH122
        return {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1} | named


def _read_label_file(path: Path) -> list[_LabelLine]:
    """Read a label file.

    Tables: two columns, path and label, or a heading that names them; other columns are skipped. Columns are
    separated by commas, semicolons, tabs or blanks. JSON: an object from path to label, a list of such pairs,
    or a list of objects with the names of the columns.
    """
    if not path.exists():
        raise PathError(f"folder: label file must be a file, got {path}, which does not exist.")
    if path.suffix.lower() not in _KINDS:
        raise DataError(f"folder: label file must end with {_listed(_KINDS)}, got {path}.")
    try:
        # Names of files may be no UTF-8: their bytes make the trip.
        text = read_text(path, errors="surrogateescape")
        parse = _from_json if path.suffix.lower() == ".json" else _from_table
        lines = list(parse(text, path))
    except (UnreadableError, ValueError, csv.Error, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"folder: {path} cannot be read as a label file: {error}.") from error
    if not lines:
        raise DataError(f"folder: {path} must give at least one image its label, got none.")
    return lines


def _from_table(text: str, file: Path) -> Iterator[_LabelLine]:
    heading: tuple[int, int] | None = None
    for place, (number, row) in enumerate(_rows(text, _separator(text))):
        where = f"{file}, line {number}"
        if not place and (heading := _columns(row)):
            continue
        if heading is None and len(row) != 2:
            hint = "" if place else f" If it is a heading, it must name {_NEEDED}, got {_listed(row)}."
            raise DataError(f"folder: {where} must have two columns, path and label, got {len(row)}.{hint}")
        path, label = heading or (0, 1)
        if len(row) <= max(path, label):
            raise DataError(f"folder: {where} must have as many columns as the header, got {len(row)}.")
        yield _line(from_cell(row[path]), from_cell(row[label]), where)


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that are not blank, with their numbers."""
    file: Iterable[str] = io.StringIO(text, newline="")
    if separator == _BLANKS:
        file = (" ".join(line.split()) for line in text.splitlines())
    reader = csv.reader(file, strict=True, delimiter=separator, skipinitialspace=True)
    width = 0
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if separator == _BLANKS:
            # Names of files may have blanks in them; a label is the last word.
            width = width or (len(row) if _columns(row) else 2)
            row = [" ".join(row[: len(row) - width + 1]), *row[1 - width :]] if len(row) > width else row
        yield reader.line_num, row


def _separator(text: str) -> str:
    """What separates the columns: what a heading is understood with, or else what gives two columns."""
    start = "\n".join(text.splitlines()[:_LOOKED_AT])
    tables = {}
    for separator in (",", ";", "\t", _BLANKS):
        try:
            tables[separator] = [row for _, row in _rows(start, separator)]
        except csv.Error:
            continue
    for separator, table in tables.items():
        if table and _columns(table[0]):
            return separator
    for separator, table in tables.items():
        if table and all(len(row) == 2 and all(row) for row in table):
            return separator
    # Some line is wrong: the first says how it is meant.
    first = start.lstrip().partition("\n")[0]
    return next((separator for separator in (",", ";", "\t", _BLANKS) if separator in first), ",")


def _columns(row: Sequence[str]) -> tuple[int, int] | None:
    """The places of path and label, where a row is a heading."""
    names = [re.sub(r"[\s_-]", "", cell).lower() for cell in row]
    paths = [names.index(name) for name in _PATHS if name in names]
    labels = [names.index(name) for name in _LABELS if name in names]
    if len(row) == 2 and paths and not labels:
        # The other column has a name of its own, such as `diagnosis`.
        labels = [1 - paths[0]]
    return (paths[0], labels[0]) if paths and labels else None


def _from_json(text: str, file: Path) -> Iterator[_LabelLine]:
    # Pairs keep a path that is named twice, which a dictionary would swallow.
    content = json.loads(text, object_pairs_hook=tuple)
    if isinstance(content, tuple):
        for path, label in content:
            yield _line(path, label, f"{file}, entry {path!r}")
    elif isinstance(content, list):
        for number, entry in enumerate(content, start=1):
            where = f"{file}, entry {number}"
            if isinstance(entry, list) and len(entry) == 2:
                yield _line(entry[0], entry[1], where)
                continue
            names, values = [*zip(*entry, strict=True)] if isinstance(entry, tuple) and entry else [(), ()]
            columns = _columns(names)
            path, label = (values[place] for place in columns) if columns else (None, None)
            yield _line(path, label, where)
    else:
        raise DataError(f"folder: {file} must hold an object or a list, got {content!r}.")


def _line(path: Any, label: Any, where: str) -> _LabelLine:
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    is_given = isinstance(path, str) and path.strip() and isinstance(label, str) and label.strip()
    if not is_given or _FRACTION.fullmatch(label.strip()):
        raise DataError(
            f"folder: {where} must give a path and a label (a text or a whole number), got"
            f" {path!r} and {label!r}."
        )
    return _LabelLine(path, label.strip(), where)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name)[:40] for name in names[:8])
    return f"{shown}, …" if len(names) > 8 else shown
