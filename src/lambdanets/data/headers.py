"""Image files opened by their headers, not yet decoded: allowed formats alone, and nothing endless."""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import Image, UnidentifiedImageError

from lambdanets.data.formats import FORMATS
from lambdanets.errors import DataError

# Decoding stays below 1 GB, whatever the format: a whole process took 0.97 GB for a progressive CMYK JPEG of
# this size, 0.5 GB for a plain one. Some formats and modes take twice the memory, and get half the pixels.
_MAX_PIXELS: Final = 61_000_000
_HEAVY: Final = {"JPEG2000", "WEBP", "I", "F"}

# Each scan of a progressive JPEG goes through all of its pixels again: five seconds for a hundred over 49
# million. Encoders write about ten.
_MAX_SCANS: Final = 100

# Each block before the pixels costs Pillow microseconds: a file of 24 MB took ten seconds. Files have some
# ten, and PNG, which has its pixels in blocks too, some thousand.
_MAX_BLOCKS: Final = 65_536

# Each strip of a TIFF costs 30 bytes and more; it has a row, or a tile of 16×16 pixels, of one channel.
_MAX_STRIPS: Final = 2**20
_STRIPS: Final = {273, 279, 324, 325}
_TIFFS: Final = {b"II*\0": "<", b"MM\0*": ">"}

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# Frames that are not progressive, and marks without a length behind them.
_JPEG_PLAIN: Final = (b"\xff\xc0", b"\xff\xc1")
_JPEG_BARE: Final = (b"\xff\x01", _JPEG_START)
# In the pixels of a JPEG stand zeros behind 255, and marks between pieces of a scan.
_JPEG_MARK: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"


@contextmanager
def opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open the bytes of an image file; its pixels are decoded when they are first asked for.

    Errors in the body of the `with` are those of a decoder: they become a `DataError` too.

    Args:
        data: The bytes of a file.
        name: The name of the file, for messages.

    Raises:
        DataError: The bytes are no image of `FORMATS`, have more than `_MAX_PIXELS` pixels, or ask for more
            time and memory than their pixels are worth; the message begins with the name.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            # Oddities of metadata do not matter; an image larger than Pillow trusts is refused.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _check_blocks(data, name)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                most = _MAX_PIXELS // 2 if _HEAVY & {image.format, image.mode} else _MAX_PIXELS
                if image.width * image.height > most:
                    raise DataError(
                        f"{name}: must have at most {most:,} pixels, got {image.width}×{image.height}."
                    )
                yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name}: must be an image ({', '.join(FORMATS)}), got another kind of file."
        ) from error
    except Exception as error:
        # Damaged bytes lead decoders to errors of any kind, which say nothing of this program.
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{name}: cannot be read as an image: {reason}.") from error


def check_image(data: bytes, name: str) -> None:
    """Raise unless the bytes begin as an image that is read.

    Raises:
        DataError: As for `opened`.
    """
    with opened(data, name):
        pass


def _check_blocks(data: bytes, name: str) -> None:
    """Raise where a file has more pieces than files of images have."""
    scans = 0
    for num_blocks, block in enumerate(_blocks(data), 1):
        scans += block == _JPEG_SCAN
        if scans > _MAX_SCANS:
            raise DataError(f"{name}: must be a JPEG of at most {_MAX_SCANS} scans, got more.")
        if num_blocks > _MAX_BLOCKS:
            raise DataError(f"{name}: must have at most {_MAX_BLOCKS:,} blocks, got more.")
    num_strips = _num_strips(data)
    if num_strips > _MAX_STRIPS:
        raise DataError(f"{name}: must be a TIFF of at most {_MAX_STRIPS:,} strips, got {num_strips:,}.")


def _blocks(data: bytes) -> Iterator[bytes]:
    """The names of the blocks of a JPEG or PNG; the lengths of those of a GIF."""
    if data.startswith(_JPEG_START):
        return _jpeg_blocks(data)
    if data.startswith(_PNG_START):
        return _png_blocks(data)
    return _gif_blocks(data) if data.startswith(b"GIF8") else iter(())


def _jpeg_blocks(data: bytes) -> Iterator[bytes]:
    position, channels = len(_JPEG_START), b""
    while (found := _JPEG_MARK.search(data, position)) and found[0] != _JPEG_END:
        yield found[0]
        start = position = found.end()
        if found[0] in _JPEG_PLAIN:
            channels = data[start + 7 : start + 8]
        # A plain scan of all channels is the only one; few others need not be looked for in the pixels.
        if found[0] == _JPEG_SCAN and (
            data[start + 2 : start + 3] == channels or data.count(_JPEG_SCAN) <= _MAX_SCANS
        ):
            return
        if found[0] not in _JPEG_BARE:
            position += int.from_bytes(data[start : start + 2])


def _png_blocks(data: bytes) -> Iterator[bytes]:
    position = len(_PNG_START)
    while kind := data[position + 4 : position + 8]:
        yield kind
        position += 12 + int.from_bytes(data[position : position + 4])


def _gif_blocks(data: bytes) -> Iterator[bytes]:
    """The blocks of extensions before the first frame."""
    table = 3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 128 else 0
    position = 13 + table
    while data[position : position + 1] == b"!":
        position += 2
        while (length := data[position : position + 1]) not in (b"", b"\0"):
            yield length
            position += 1 + length[0]
        position += 1


def _num_strips(data: bytes) -> int:
    """How many strips or tiles the first directory of a TIFF declares; 0 for other files."""
    order = _TIFFS.get(data[:4])
    if order is None or len(data) < 8:
        return 0
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack(f"{order}H", data[start : start + 2].ljust(2, b"\0"))
    directory = data[start + 2 : start + 2 + 12 * count]
    entries = struct.iter_unpack(f"{order}HHI4x", directory[: len(directory) // 12 * 12])
    return max((number for tag, _, number in entries if tag in _STRIPS), default=0)
