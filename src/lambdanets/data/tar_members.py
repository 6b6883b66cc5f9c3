"""Members of a tar archive by their place in it: nothing is unpacked, and no header is trusted."""

import os
import tarfile
from collections.abc import Iterator
from typing import Final, NamedTuple

from lambdanets.errors import DataError
from lambdanets.text import printable

_BLOCK: Final = tarfile.BLOCKSIZE
# Longest header of a long name or of pax records: names of images fit many times.
_MAX_HEADER_BYTES: Final = 64 * 1024
# Longest piece of what follows the end of an archive that is looked at in one go.
_PIECE: Final = 1 << 20

# Empty blocks that may follow the end mark: some write a whole tape's record.
_LONGEST_END: Final = 1 << 26

_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
# Headers that speak of what follows.
_ANNOUNCING: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)
_REFUSED: Final = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.GNUTYPE_LONGLINK: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}


class Member(NamedTuple):
    """One file of an archive: its printable name, and the place and number of its bytes."""

    name: str
    offset: int
    size: int


def tar_members(descriptor: int, shard: str) -> Iterator[Member]:
    """Give the files of an uncompressed tar archive in their order, by reading headers alone.

    Takes ustar, GNU and pax archives. What an image set has no use for, and an attacker might, is an error:
    names that lead elsewhere, links, devices, files with holes, headers of more than 64 KiB, sizes beyond
    the archive's end, an archive without its end.

    Args:
        descriptor: The archive, open for reading; its position is left alone.
        shard: What errors call it.

    Raises:
        DataError: The archive is damaged or not to be trusted.
    """
    total = os.fstat(descriptor).st_size
    position = 0
    # What the headers so far say of the next member.
    ahead: dict[str, str] = {}
    while (header := _header(descriptor, position, shard)) is not None:
        position += _BLOCK
        announces = header.type in _ANNOUNCING
        name = header.name if announces else ahead.get("path", header.name)
        size = header.size if announces else int(ahead.get("size", header.size))
        _check_kind(shard, name, header.type)
        # As everywhere: a folder has no bytes, whatever it says.
        size = 0 if header.isdir() else size
        if not 0 <= size <= total - position:
            raise DataError(
                f"shards: {shard} must hold all bytes of its members, got {size:,} declared for"
                f" {printable(name)} and {max(total - position, 0):,} to the end. Is it cut off?"
            )
        if announces:
            ahead |= _announced(descriptor, position, header, shard)
        else:
            if not name or name.startswith("/") or ".." in name.split("/"):
                raise DataError(f"shards: {shard} must hold names inside it, got {printable(name)!r}.")
            if not header.isdir():
                yield Member(printable(name), position, size)
            ahead = {}
        position += -(-size // _BLOCK) * _BLOCK
    # Behind the first empty block stands nothing: two archives in one file would lose the second.
    is_long = total - position > _LONGEST_END
    while piece := os.pread(descriptor, _PIECE, position):
        if is_long or piece.count(0) < len(piece):
            raise DataError(
                f"shards: {shard} must end after its end mark, got more at byte {position:,}."
                " Are two archives in one file?"
            )
        position += len(piece)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Bytes of a file; fewer where it ends before."""
    found = os.pread(descriptor, size, offset)
    # One call gives at most 2 GiB, and fewer when a signal comes.
    while len(found) < size and (more := os.pread(descriptor, size - len(found), offset + len(found))):
        found += more
    return found


def _header(descriptor: int, position: int, shard: str) -> tarfile.TarInfo | None:
    """The header at a position, or None at the end mark."""
    block = read_at(descriptor, position, _BLOCK)
    if block.count(0) == _BLOCK:
        return None
    for magic, method in _COMPRESSED.items():
        if position == 0 and block.startswith(magic):
            raise DataError(
                f"shards: {shard} must be an uncompressed tar archive, got one packed by {method}."
                " Images are read at their places in it: unpack the archive."
            )
    if len(block) < _BLOCK:
        raise DataError(
            f"shards: {shard} must end with empty blocks, got none at byte {position:,}. Cut off?"
        )
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        raise DataError(
            f"shards: {shard} must be a tar archive, got no header at byte {position:,} ({error})."
        ) from error


def _check_kind(shard: str, name: str, kind: bytes) -> None:
    if kind not in (*_FILES, *_ANNOUNCING, tarfile.DIRTYPE):
        what = _REFUSED.get(kind, f"a member of kind {kind!r}")
        raise DataError(f"shards: {shard} must hold plain files, got {what}, {printable(name)}.")


def _announced(descriptor: int, position: int, header: tarfile.TarInfo, shard: str) -> dict[str, str]:
    """The path or size of the next member, as a header without a file gives it."""
    if header.size > _MAX_HEADER_BYTES:
        raise DataError(
            f"shards: {shard} must have headers of at most {_MAX_HEADER_BYTES:,} bytes, got {header.size:,}"
            f" at {printable(header.name)}."
        )
    content = read_at(descriptor, position, header.size)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": _text(content.partition(b"\0")[0])}
    records = _pax_records(content, shard, header.name)
    if any(keyword.startswith("GNU.sparse") for keyword in records):
        _check_kind(shard, header.name, tarfile.GNUTYPE_SPARSE)
    announced = {keyword: value for keyword, value in records.items() if keyword in ("path", "size")}
    if announced and header.type == tarfile.XGLTYPE:
        raise DataError(
            f"shards: {shard} must name each member, got one {' and '.join(announced)} for all at"
            f" {printable(header.name)}."
        )
    size = announced.get("size", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise _damaged(shard, header.name)
    return announced


def _pax_records(content: bytes, shard: str, name: str) -> dict[str, str]:
    """Records of the form `length keyword=value` and a line break, whose length counts itself."""
    records = {}
    start = 0
    while start < len(content) and content[start]:
        length = content[start : start + 8].partition(b" ")[0]
        end = start + int(length) if length.isdigit() else start
        record = content[start:end]
        keyword, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals or len(record) != end - start or not record.endswith(b"\n"):
            raise _damaged(shard, name)
        records[_text(keyword)] = _text(value)
        start = end
    return records


def _damaged(shard: str, name: str) -> DataError:
    return DataError(f"shards: {shard} must have whole pax headers, got a damaged one at {printable(name)}.")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")
