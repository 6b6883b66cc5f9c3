"""The one reader of files: regular, of a bounded size, and understood, or refused with one short reason."""

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from lambdanets.errors import DataError

# Bytes of a file that a person or a run writes: settings, metrics, names of classes, tables.
_SMALL: Final = 2**28

# Whole numbers of JSON are below: no other library takes larger ones.
_LARGEST: Final = 2**63

# The entry of a record that holds the sum of the others.
_SUM: Final = "record_sha256"

# What a name may stand for.
_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# Texts that begin so are not UTF-8: spreadsheets write them.
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class UnreadableError(ValueError):
    """Why a file cannot be read or understood, in a few words; `reading` adds who complains and the path."""


@dataclass(frozen=True)
class Number:
    """A number between two bounds, for the fields of `read_json`.

    Attributes:
        kind: `int` or `float`.
        least: The least that it may be.
        most: The most that it may be.
    """

    kind: type
    least: int | float
    most: int | float = math.inf

    def __str__(self) -> str:
        bound = f"of at least {self.least}" if self.most == math.inf else f"from {self.least} to {self.most}"
        return f"{self.kind.__name__} {bound}"


@contextmanager
def reading(
    who: str, what: object, requirement: str, error: type[Exception] = DataError, hint: str = ""
) -> Iterator[None]:
    """Turn an `UnreadableError` into the error of a public function: `who: what must requirement, got …`.

    Args:
        who: The public function or command that complains.
        what: The path, or the argument.
        requirement: Such as `be a COCO file`.
        error: The class of the error.
        hint: What to do.
    """
    try:
        yield
    except UnreadableError as unreadable:
        advice = f" {hint}" if hint else ""
        raise error(f"{who}: {what} must {requirement}, got {unreadable}.{advice}") from unreadable


def open_regular(path: str | bytes | Path, limit: int | None = None) -> tuple[int, os.stat_result]:
    """Open a file to read it. Nothing is waited for.

    Args:
        path: The file; links are followed.
        limit: The most bytes it may have; None: any number.

    Returns:
        Its descriptor, which the caller closes, and its status.

    Raises:
        UnreadableError: It is not there, may not be read, is no regular file, or is too large.
    """
    try:
        # A pipe without a writer would otherwise be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreadableError(_reason(error)) from error
    except ValueError as error:
        # A zero byte in the name.
        raise UnreadableError(f"a path with an error: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(kind_of(status.st_mode))
        if limit is not None and status.st_size > limit:
            raise UnreadableError(f"{status.st_size:,} bytes, which is above {limit:,}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


@contextmanager
def opened(path: str | bytes | Path, limit: int | None = None) -> Iterator[tuple[int, os.stat_result]]:
    """Hold a file open as `open_regular` does; an error of the disk meanwhile is an `UnreadableError`."""
    descriptor, status = open_regular(path, limit)
    try:
        yield descriptor, status
    except OSError as error:
        raise UnreadableError(_reason(error)) from error
    finally:
        os.close(descriptor)


def kind_of(mode: int) -> str:
    """What something is by its mode: a file, a folder, a pipe, a device."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")


def read_bytes(path: str | bytes | Path, *, limit: int = _SMALL) -> bytes:
    """Read a whole regular file.

    Args:
        path: The file.
        limit: The most bytes it may have.

    Raises:
        UnreadableError: It is not there, may not be read, is no regular file, or is too large.
    """
    with (
        opened(path, limit) as (descriptor, _),
        open(descriptor, "rb", buffering=0, closefd=False) as file,
    ):
        # It may grow meanwhile.
        content = file.read(limit + 1) if limit < 2**24 else file.readall()
    if len(content) > limit:
        raise UnreadableError(f"more than {limit:,} bytes")
    return content


def sum_of_file(path: str | bytes | Path) -> str:
    """SHA-256 of a regular file.

    Raises:
        UnreadableError: As `read_bytes`.
    """
    with opened(path) as (descriptor, _), open(descriptor, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | bytes | Path, *, limit: int = _SMALL, errors: str = "strict") -> str:
    """Read a text: UTF-8, or UTF-16, known by its byte order mark or by the zeros between its letters.

    Args:
        path: The file.
        limit: The most bytes it may have.
        errors: What becomes of bytes that are no UTF-8, as `bytes.decode` takes it.

    Raises:
        UnreadableError: As `read_bytes`, or it is another encoding or no text.
    """
    return _decode_text(read_bytes(path, limit=limit), errors)


def _decode_text(content: bytes, errors: str = "strict") -> str:
    encoding = "utf-8-sig"
    if content.startswith(_UTF16):
        encoding = "utf-16"
    elif b"\0" in content[:2]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content.decode(encoding, errors if encoding == "utf-8-sig" else "strict")
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise UnreadableError(f"bytes that are no {name} text, the first at {error.start:,}") from error


def read_json(
    path: str | bytes | Path,
    fields: Mapping[Any, Any] | None = None,
    *,
    limit: int = _SMALL,
    any_number: bool = False,
) -> Any:
    """Read a file of JSON, whose numbers are finite.

    Args:
        path: The file.
        fields: What an object must hold: name -> the type of its value, or a tuple of types; for lists
            `[type]`, for objects with any names `{str: type}`, for numbers with bounds a `Number`. A name
            that ends with `?` may be missing or null. `float` takes whole numbers too, no number is a bool,
            and whole numbers have at most 64 bits. None: any JSON.
        limit: The most bytes it may have.
        any_number: The caller looks for NaN and infinity, as is quicker for very many numbers.

    Raises:
        UnreadableError: As `read_text`, or it is no such JSON.
    """
    return parse_json(read_bytes(path, limit=limit), fields, any_number=any_number)


def parse_json(
    content: str | bytes, fields: Mapping[Any, Any] | None = None, *, any_number: bool = False
) -> Any:
    """Understand JSON whose numbers are finite; see `read_json`."""
    text = _decode_text(content) if isinstance(content, bytes) else content
    try:
        checks: dict[str, Any] = (
            {} if any_number else {"parse_constant": _refuse_constant, "parse_float": _finite}
        )
        value = json.loads(text, **({} if any_number else checks))
    except UnreadableError:
        raise
    except RecursionError as error:
        raise UnreadableError("JSON that is nested too deeply") from error
    # Numbers of very many digits are no JSONDecodeError.
    except ValueError as error:
        raise UnreadableError(f"no JSON ({error})" if text.strip() else "an empty file") from error
    if fields is not None:
        check_fields(value, fields)
    return value


def check_fields(value: Any, fields: Mapping[Any, Any]) -> None:
    """Raise unless a value read from JSON is an object with some fields; see `read_json`.

    Raises:
        UnreadableError: It is not.
    """
    _check_value(value, dict(fields), "")


def _check_value(value: Any, kind: Any, where: str) -> None:
    is_nested = isinstance(kind, dict | list)
    # A record that was not written yet may have tuples.
    nesting = (list, tuple) if isinstance(kind, list) else type(kind)
    if not (isinstance(value, nesting) if is_nested else _is_of(value, kind)):
        raise UnreadableError(f"{_shown(value)} where {_name_of(kind)} is needed{where and ' at '}{where}")
    if is_nested:
        for place, one, inner in _parts(value, kind, where):
            _check_value(one, inner, place)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value that is no list and no object is of a type, of one of several, or a `Number`."""
    if isinstance(kind, Number):
        return _is_of(value, kind.kind) and kind.least <= value <= kind.most
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int):
        return (int in kinds or float in kinds) and -_LARGEST <= value < _LARGEST
    return isinstance(value, kinds)


def _parts(value: Any, kind: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """The place, the value and the kind of each part of an object or a list."""
    dot = "." if where else ""
    if isinstance(kind, list):
        yield from ((f"{where}[{number}]", one, kind[0]) for number, one in enumerate(value))
    elif str in kind:
        yield from ((f"{where}{dot}{name}", one, kind[str]) for name, one in value.items())
    else:
        for name, inner in kind.items():
            plain = name.removesuffix("?")
            if plain not in value and plain == name:
                raise UnreadableError(f"no {where}{dot}{plain}")
            if value.get(plain) is not None or plain == name:
                yield f"{where}{dot}{plain}", value[plain], inner


def _name_of(kind: Any) -> str:
    if isinstance(kind, dict | list):
        return "an object" if isinstance(kind, dict) else "a list"
    if isinstance(kind, Number):
        return str(kind)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if one is type(None) else one.__name__ for one in kinds)


def read_records(path: str | bytes | Path, *, limit: int = _SMALL) -> list[dict[str, Any]]:
    """Read the objects of a file of JSON lines; the last line may be a half one, as a kill leaves it.

    Numbers that are not finite are read as they were written.

    Raises:
        UnreadableError: As `read_bytes`, or another line is no object.
    """
    *lines, rest = read_bytes(path, limit=limit).split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_parse_record(line))
        except UnreadableError as error:
            raise UnreadableError(f"{error} in line {number}") from error
    with suppress(UnreadableError):
        records.append(_parse_record(rest))
    return records


def _parse_record(line: bytes) -> dict[str, Any]:
    record: dict[str, Any] = parse_json(line, {}, any_number=True)
    return record


def with_sum(record: Mapping[str, Any]) -> dict[str, Any]:
    """Add a sum over all its entries to a record, before it is written as JSON."""
    return {**record, _SUM: _sum_of(record)}


def check_sum(record: Mapping[str, Any], *, needed: bool = False) -> None:
    """Raise unless a record that was read is as `with_sum` wrote it.

    Args:
        record: The record.
        needed: One without a sum, as earlier versions wrote it, is refused too.

    Raises:
        UnreadableError: It was changed.
    """
    if _SUM not in record:
        if needed:
            raise UnreadableError("no sum of its entries")
    elif record[_SUM] != _sum_of(record):
        raise UnreadableError("entries that do not have their sum")


def _sum_of(record: Mapping[str, Any]) -> str:
    others = {name: value for name, value in record.items() if name != _SUM}
    return hashlib.sha256(json.dumps(others).encode()).hexdigest()


def _shown(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"


def _refuse_constant(text: str) -> NoReturn:
    raise UnreadableError(f"{text}, which is no finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UnreadableError(f"{text[:40]}, which is no finite number")
    return number


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
