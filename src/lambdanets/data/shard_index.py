"""Index of a shard: which image is where, made once by reading headers, and kept beside it."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from lambdanets.data.formats import ENDINGS
from lambdanets.data.sources import MAX_BYTES
from lambdanets.data.tar_members import Member, read_at, tar_members
from lambdanets.errors import DataError, PathError
from lambdanets.files import make_folder, replace_file
from lambdanets.reading import (
    Number,
    UnreadableError,
    check_sum,
    opened,
    parse_json,
    read_json,
    reading,
    with_sum,
)
from lambdanets.text import printable
from lambdanets.variables import cache_folder

# What may be an image, by the end of its name.
IMAGES: Final = tuple(ending.decode("ascii").removeprefix(".") for ending in ENDINGS)
# Largest file that says what an image shows.
_MAX_LABEL_BYTES: Final = 1 << 20
# Longest name of a class.
_MAX_NAME: Final = 1000
# Written into each index: another number is another form.
_FORMAT: Final = 1
_FIELDS: Final = {
    "format": int,
    "stamp": [int],
    "names": [str],
    "offsets": [Number(int, 0)],
    "sizes": [Number(int, 0)],
    "labels": [(int, str)],
}

Label = int | str


class Stamp(NamedTuple):
    """Size and times of a shard, which change when it is written anew.

    Attributes:
        size: Its bytes.
        mtime_ns: When its bytes were written, as anybody may set it.
        ctime_ns: When anything about the file was changed, which nobody sets: a copy has one of its own.
    """

    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def content(self) -> tuple[int, int]:
        """What stays where only the name, the owner or the mode of a file changes."""
        return self.size, self.mtime_ns


class ShardIndex(NamedTuple):
    """The images of a shard, in stored order.

    Attributes:
        stamp: Size and times of the shard that was read.
        names: Name of each image's member.
        offsets: Where their bytes begin.
        sizes: How many there are.
        labels: The number of each class, or its name.
    """

    stamp: Stamp
    names: list[str]
    offsets: list[int]
    sizes: list[int]
    labels: list[Label]


def read_index(shard: Path) -> ShardIndex:
    """The index of a shard: as it is kept, or made now and kept.

    Any number of processes may do so at once: each makes a whole file, and the last one stays.

    Raises:
        PathError: There is no such file.
        DataError: It is no tar archive to be trusted, or lacks an image or a class.
    """
    stamp = _stamp(shard)
    for place in _index_places(shard):
        if (index := _kept(place, stamp)) is not None:
            return index
    index = _build_index(shard)
    for place in _index_places(shard):
        # A folder may be for reading alone, a disk full: then the index is made again next time.
        with contextlib.suppress(OSError):
            _keep(place, index, shard)
            break
    return index


def _build_index(shard: Path) -> ShardIndex:
    """Read the headers and the classes of a shard."""
    with reading("shards", shard, "be readable"), opened(shard) as (descriptor, status):
        stamp = stamp_of(status)
        samples = _samples(descriptor, shard.name)
        rows = [_row(descriptor, shard.name, key, files) for key, files in samples.items()]
    names, offsets, sizes, labels = (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 4
    return ShardIndex(stamp, names, offsets, sizes, labels)


def index_place(shard: Path, stamp: Stamp) -> Path | None:
    """The path of a shard's index; None where none could be written."""
    places = _index_places(shard)
    return next((place for place in places if _kept(place, stamp) is not None), None)


def _index_places(shard: Path) -> tuple[Path, ...]:
    """Paths at which the index may be: beside the shard, or among the user's caches, if there are any."""
    beside, caches = shard.with_name(f"{shard.name}.index.json"), cache_folder()
    if caches is None:
        return (beside,)
    name = hashlib.sha256(os.fsencode(shard.absolute())).hexdigest()
    return beside, caches / "lambdanets" / "shards" / f"{name}.index.json"


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _stamp(shard: Path) -> Stamp:
    try:
        return stamp_of(shard.stat())
    except OSError as error:
        raise PathError(f"shards: {shard} must be a file, got '{error.strerror}'.") from error


def _samples(descriptor: int, shard: str) -> dict[str, dict[str, Member]]:
    """The members by key (the name up to the first dot of its last part) and by extension."""
    samples: dict[str, dict[str, Member]] = {}
    for member in tar_members(descriptor, shard):
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        stem, dot, extension = base.partition(".")
        # `README`, `.DS_Store` and `._000.jpg` are no samples.
        if not stem or not dot:
            continue
        files = samples.setdefault(folder + slash + stem, {})
        if files.setdefault(extension.lower(), member) is not member:
            raise DataError(f"shards: {shard} must hold each name once, got {member.name!r} twice.")
    return samples


def _row(descriptor: int, shard: str, key: str, files: dict[str, Member]) -> tuple[str, int, int, Label]:
    images = [member for extension, member in files.items() if extension in IMAGES]
    if len(images) != 1:
        raise DataError(
            f"shards: {shard} must hold one image for each key, got {len(images)} for {key!r}"
            f" ({', '.join(member.name for member in files.values())})."
        )
    name, offset, size = images[0]
    if size > MAX_BYTES:
        raise DataError(
            f"shards: {shard} must hold images of at most {MAX_BYTES:,} bytes, got {size:,} at {name}."
        )
    return name, offset, size, _label(descriptor, shard, key, files)


def _label(descriptor: int, shard: str, key: str, files: dict[str, Member]) -> Label:
    member = files.get("cls") or files.get("json")
    if member is None:
        raise DataError(f"shards: {shard} must hold a .cls or a .json for each image, got none for {key!r}.")
    if member.size > _MAX_LABEL_BYTES:
        raise DataError(
            f"shards: {shard} must hold labels of at most {_MAX_LABEL_BYTES:,} bytes, got {member.size:,} at"
            f" {member.name}."
        )
    content = read_at(descriptor, member.offset, member.size)
    text = content.decode("utf-8", "backslashreplace").strip()
    if "cls" not in files:
        label = _json_label(content)
    elif re.fullmatch(r"[+-]?[0-9]+", text):
        label = _number(text)
    else:
        label = _class_name(text)
    if label is None:
        shown = printable(content[:40])
        more = "…" if len(content) > 40 else ""
        what = "the number or the name of a class" if "cls" in files else 'an object with "label"'
        raise DataError(f"shards: {shard} must hold {what} in {member.name}, got '{shown}'{more}.")
    return label


def _json_label(content: bytes) -> Label | None:
    try:
        label = parse_json(content, {"label": (int, str)})["label"]
    except UnreadableError:
        return None
    if isinstance(label, str):
        return _class_name(label.strip())
    return _number(str(label)) if type(label) is int else None


def _number(text: str) -> int | None:
    return int(text) if len(text) < 10 and int(text) >= 0 else None


def _class_name(text: str) -> str | None:
    return text if 0 < len(text) <= _MAX_NAME else None


def _kept(place: Path, stamp: Stamp) -> ShardIndex | None:
    """The index in a file, or None where there is none for this shard."""
    try:
        # No index is larger: each image takes two blocks of the shard.
        content = read_json(place, _FIELDS, limit=4 * stamp.size)
        check_sum(content, needed=True)
    except UnreadableError:
        return None
    index = ShardIndex(stamp, *(content[name] for name in ShardIndex._fields[1:]))
    fits = content["format"] == _FORMAT and content["stamp"] == [*stamp]
    return index if fits and _is_sound(index) else None


def _is_sound(index: ShardIndex) -> bool:
    """Whether an index that anybody may have written points into the shard, and names classes."""
    stamp, names, offsets, sizes, labels = index
    return (
        len(names) == len(offsets) == len(sizes) == len(labels)
        and all(start + count <= stamp.size for start, count in zip(offsets, sizes, strict=True))
        and all(isinstance(one, str) or _number(str(one)) is not None for one in labels)
    )


def _keep(place: Path, index: ShardIndex, shard: Path) -> None:
    make_folder(place.parent)
    content = json.dumps(with_sum({"format": _FORMAT, **index._asdict()}), separators=(",", ":"))
    # Whoever may read the shard may read its index, and nobody else: it has names and classes of the images.
    replace_file(place, content.encode("ascii"), mode=shard.stat().st_mode & 0o666)
