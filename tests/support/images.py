"""Image files, whole ones and every kind of broken one."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Planted(NamedTuple):
    """What `plant` has left: names of files that can be read, and of others what their message says."""

    readable: tuple[str, ...]
    unreadable: dict[str, str]


def photo(width=40, height=30, seed=0):
    """A smooth coloured image with a little noise, as bytes "height width 3"."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 216, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-8, 9, smooth.shape)).clip(0, 255).astype(np.uint8)


def encoded(pixels, kind="JPEG", **options):
    """The bytes of an image's file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_folder(root, classes, each=3, size=(40, 30)):
    """Class folders of JPEG files, each class of a colour of its own."""
    for number, name in enumerate(classes):
        folder = Path(root) / name
        folder.mkdir(parents=True)
        for index in range(each):
            pixels = photo(*size, seed=100 * number + index) // 2
            pixels[..., number % 3] += 100
            (folder / f"{index:03}.jpg").write_bytes(encoded(pixels, quality=90))


def huge_png(side=20_000):
    """A PNG of few bytes and many pixels, whole and without a fault."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + side // 8)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def text_bomb_png():
    """A small PNG whose text would unpack to 200 MB."""
    text = zlib.compressobj(9)
    packed = b"".join(text.compress(bytes(2**20)) for _ in range(200)) + text.flush()
    whole = encoded(photo(), "PNG")
    # Signature and header of the image come first: 8 and 25 bytes.
    return whole[:33] + _chunk(b"zTXt", b"Comment\0\0" + packed) + whole[33:]


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def animated_gif():
    """Two frames: red, then blue."""
    red, blue = (Image.new("RGB", (24, 18), color) for color in ("red", "blue"))
    return encoded(red, "GIF", save_all=True, append_images=[blue])


def turned_jpeg():
    """An image of 20×10 pixels, left half white, stored lying on its side."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)


def readable_files():
    """Unusual files that are images all the same."""
    pixels = photo()
    grey = pixels[..., 0]
    palette = Image.fromarray(grey).convert("P")
    return {
        b"animated.gif": animated_gif(),
        b"cmyk.jpg": encoded(Image.fromarray(pixels).convert("CMYK")),
        b"sixteen.png": encoded(grey.astype(np.uint16) * 257, "PNG"),
        b"palette.png": encoded(palette, "PNG", transparency=bytes(range(256))),
        b"turned.jpg": turned_jpeg(),
        b"named-\xe9\xff.jpg": encoded(pixels),
    }


def unreadable_files():
    """Files that are no images, or not whole ones, with what is said of them."""
    jpeg = encoded(photo(), quality=90)
    another = r"must be an image \(AVIF, BMP, .*got another kind of file"
    return {
        "empty.jpg": (b"", another),
        "truncated.jpg": (jpeg[: len(jpeg) * 9 // 10], "cannot be read as an image: image file is truncated"),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", another),
        "huge.png": (huge_png(), "cannot be read as an image: Image size .* exceeds limit"),
        "text.png": (text_bomb_png(), "cannot be read as an image: Decompressed data too large"),
    }


def plant(folder):
    """Put one of each unusual and each broken file into a folder, which is made if need be.

    Besides the files above: a link that leads nowhere.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in readable_files().items():
        (folder / os.fsdecode(name)).write_bytes(content)
    unreadable = {}
    for name, (content, message) in unreadable_files().items():
        (folder / name).write_bytes(content)
        unreadable[name] = message
    (folder / "nowhere.jpg").symlink_to("no-such-file.jpg")
    unreadable["nowhere.jpg"] = "cannot be read: No such file"
    return Planted(tuple(os.fsdecode(name) for name in readable_files()), unreadable)
