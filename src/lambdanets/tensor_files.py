"""Files of tensors (safetensors), whose size and header are checked first; torch is imported with use."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lambdanets.reading import Number, UnreadableError, check_fields, opened, parse_json

if TYPE_CHECKING:
    from torch import Tensor

# The name of what describes weights, in the metadata of their file.
DESCRIPTION: Final = "lambdanets"

# Bytes of a file: the largest networks that are published have fewer.
_MOST: Final = 2**42
# Bytes of a header, as the format has it.
_MOST_OF_HEADER: Final = 100_000_000
_LENGTH: Final = 8
_METADATA: Final = "__metadata__"
_ENTRY: Final = {"dtype": str, "shape": [Number(int, 0)], "data_offsets": [Number(int, 0)]}


class Header(NamedTuple):
    """What a file of tensors says of itself.

    Attributes:
        metadata: Texts by name.
        shapes: The shape of each tensor, by name.
    """

    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def read_header(path: Path) -> Header:
    """Read the header of a file that is as large as it says.

    Raises:
        UnreadableError: It is no such regular file.
    """
    with opened(path, _MOST) as (descriptor, status):
        return _header(descriptor, status.st_size)


def load_tensors(path: Path) -> tuple[dict[str, "Tensor"], Mapping[str, str]]:
    """Read a whole file, opened once: tensors by name, and the metadata.

    Raises:
        UnreadableError: As `read_header`, or its tensors cannot be understood.
    """
    with (
        opened(path, _MOST) as (descriptor, status),
        open(descriptor, "rb", buffering=0, closefd=False) as file,
    ):
        metadata = _header(descriptor, status.st_size).metadata
        content = file.readall()
    return tensors_of(content), metadata


def tensors_of(content: bytes) -> dict[str, "Tensor"]:
    """The tensors in the bytes of a file.

    Raises:
        UnreadableError: The bytes are no such file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    # Types that torch lacks, and sizes that no memory holds.
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        raise UnreadableError(str(error)) from error


def open_tensors(path: Path, framework: str = "pt") -> Any:
    """Open a file to read some of its tensors: safetensors' `safe_open`, which maps it into memory.

    Raises:
        UnreadableError: As `read_header`.
    """
    from safetensors import SafetensorError, safe_open

    read_header(path)
    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise UnreadableError(str(error)) from error


def _header(descriptor: int, size: int) -> Header:
    length = int.from_bytes(os.pread(descriptor, _LENGTH, 0), "little")
    if size < _LENGTH or length > min(size - _LENGTH, _MOST_OF_HEADER):
        raise UnreadableError("no header of a safetensors file")
    record = parse_json(os.pread(descriptor, length, _LENGTH))
    check_fields(record, {f"{_METADATA}?": {str: str}})
    metadata = record.pop(_METADATA, None) or {}
    check_fields(record, {str: _ENTRY})
    ends = [max(entry["data_offsets"], default=0) for entry in record.values()]
    expected = _LENGTH + length + max(ends, default=0)
    if size != expected:
        raise UnreadableError(f"{size:,} bytes where its header says {expected:,}")
    return Header(metadata, {name: tuple(entry["shape"]) for name, entry in record.items()})
