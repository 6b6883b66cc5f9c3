"""Images of any source as shards: the same bytes, and the same archives each time."""

import io
import re
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import torch

from lambdanets.data.headers import check_image
from lambdanets.data.seeds import Purpose, permutation
from lambdanets.data.shard_index import IMAGES
from lambdanets.data.sources import Source
from lambdanets.errors import ArgumentError, check_positive
from lambdanets.files import flush, new_folder

MAX_SHARD_BYTES: Final = 256 * 2**20
MAX_COUNT: Final = 10_000

# How the bytes of an image begin.
_BEGINNINGS: Final = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\x00": "tif",
    b"MM\x00*": "tif",
    b"P4": "pbm",
    b"P5": "pgm",
    b"P6": "ppm",
    b"\x00\x00\x00\x0cjP": "jp2",
}


def write_shards(
    source: Source,
    folder: Path,
    prefix: str,
    *,
    max_bytes: int = MAX_SHARD_BYTES,
    max_count: int = MAX_COUNT,
    shuffle_seed: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Path]:
    """Write a source as shards `prefix-000000.tar`, `prefix-000001.tar`, …, into a new folder.

    Images keep their bytes; each has its class as a number. Archives know no time, owner or machine, so
    the same source gives the same ones. The folder is there when all of them are on the disk, or not at all.

    Args:
        source: What to write.
        folder: Which must not be there yet; the one above it must.
        prefix: Letters, digits, `-` and `_`.
        max_bytes: Size of an archive at most; a larger image has one for itself.
        max_count: Images in an archive at most.
        shuffle_seed: Write in an order that it decides, for readers that go through archives from their
            beginning to their end; none: in the order of the source, which readers by place do not mind.
        progress: Called with the images written so far.

    Returns:
        The shards.

    Raises:
        ArgumentError: An argument is out of range, or the folder is there.
        DataError: An image cannot be read, or is none.
        StorageError: The disk is full or the folder cannot be written.
    """
    check_positive("write_shards", most=2**63 - 1, max_bytes=max_bytes, max_count=max_count)
    if not re.fullmatch(r"[\w-]+", prefix, re.ASCII):
        raise ArgumentError(f"write_shards: prefix must be of letters, digits, - and _, got {prefix!r}.")
    order = torch.arange(len(source))
    if shuffle_seed is not None:
        order = permutation(len(source), Purpose.SHARDS_ORDER, shuffle_seed)
    if folder.exists():
        raise ArgumentError(f"write_shards: folder must not be there yet, got {folder}, which is.")
    with new_folder(folder, "write_shards") as beside:
        with closing(_Writer(beside, prefix, max_bytes, max_count)) as writer:
            for count, index in enumerate(order.tolist(), 1):
                name, content = source.name(index), source.read(index)
                # A link may lead to any file: nothing but images is copied.
                check_image(content, name)
                writer.add(count - 1, name, content, int(source.targets[index]))
                progress(count)
        names = writer.names
    return [folder / name for name in names]


def _image_extension(content: bytes, name: str) -> str:
    """The extension of an image: by its bytes, or by its name, or else `jpg`."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:12] == b"ftypavif":
        return "avif"
    for beginning, extension in _BEGINNINGS.items():
        if content.startswith(beginning):
            return extension
    extension = name.rpartition(".")[2].lower()
    return extension if extension in IMAGES else "jpg"


class _Writer:
    """The archives of a folder, one open at a time."""

    def __init__(self, folder: Path, prefix: str, max_bytes: int, max_count: int) -> None:
        self.names: list[str] = []
        self._folder, self._prefix = folder, prefix
        self._max_bytes, self._max_count = max_bytes, max_count
        self._archive: tarfile.TarFile | None = None
        self._count = 0

    def add(self, number: int, name: str, content: bytes, target: int) -> None:
        """Write an image and its class, in a new archive where the present one is full."""
        key = f"{number:08d}{_provenance(name)}"
        members = {
            f"{key}.cls": str(target).encode("ascii"),
            f"{key}.{_image_extension(content, name)}": content,
        }
        # A member has a header and stands in whole blocks.
        blocks = sum(1 - (-len(data) // tarfile.BLOCKSIZE) for data in members.values())
        archive = self._archive_for(blocks * tarfile.BLOCKSIZE)
        for member, data in members.items():
            header = tarfile.TarInfo(member)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
        self._count += 1

    def _archive_for(self, size: int) -> tarfile.TarFile:
        """The open archive where it has room for so many bytes, else a new one."""
        if self._archive is not None:
            # An archive ends with two empty blocks, and is filled up to a whole record.
            end = self._archive.offset + size + 2 * tarfile.BLOCKSIZE
            records = -(-end // tarfile.RECORDSIZE)
            too_large = records * tarfile.RECORDSIZE > self._max_bytes
            if self._count < self._max_count and (not too_large or self._count == 0):
                return self._archive
            self.close()
        self.names.append(f"{self._prefix}-{len(self.names):06d}.tar")
        self._archive = tarfile.open(  # noqa: SIM115
            self._folder / self.names[-1], "w", format=tarfile.USTAR_FORMAT
        )
        self._count = 0
        return self._archive

    def close(self) -> None:
        """Write the open archive to the disk."""
        if self._archive is not None:
            self._archive.close()
            flush(self._folder / self.names[-1])
            self._archive = None


def _provenance(name: str) -> str:
    """The name of a file as the rest of a key: `-n01440764_10026`; empty where it has none."""
    stem = re.split(r"[/\\]", name)[-1].partition(".")[0]
    kept = re.sub(r"[^\w-]+", "-", stem, flags=re.ASCII).strip("-")[:60]
    return f"-{kept}" if kept else ""
