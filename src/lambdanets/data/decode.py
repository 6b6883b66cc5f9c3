"""Image files decoded to pixels, upright, red, green and blue; parts of them at any size."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from lambdanets.data.headers import opened
from lambdanets.data.preprocessing import Box
from lambdanets.data.sources import read_file
from lambdanets.errors import ArgumentError, ArgumentTypeError, DataError, PathError
from lambdanets.text import printable

# All that can be given where one image is asked for.
ImageInput: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[Any, np.dtype[Any]] | Tensor

# What stands behind transparent parts.
_Background = Literal["white", "contrast"]

# Floating-point pixels beyond 0 and 1 by less than this are rounded: resizing overshoots a little.
_TOLERANCE: Final = 1e-3

# Larger parts of images are not copied: Pillow resizes them where they are, four times slower.
_COPIED_PIXELS: Final = 4_000_000


def open_image(image: ImageInput, *, background: _Background = "white") -> tuple[Image.Image, str]:
    """Take an image of any kind as red, green and blue of a byte each, upright.

    Args:
        image: The path of a file; the bytes of one; an image of Pillow; an array of shape (height, width) or
            (height, width, channels); a tensor of shape (channels, height, width) or (height, width). One
            channel is grey, three are colour, a fourth is opacity. Arrays and tensors hold bytes (uint8), or
            floating-point numbers from 0 to 1, which are rounded to bytes.
        background: As for `decode`.

    Returns:
        The image, and its name for messages: the path, or `image`.

    Raises:
        PathError: There is no such file.
        DataError: A file, bytes or an image of Pillow cannot be decoded.
        ArgumentError: An array or a tensor has another shape, or numbers beyond 0 and 1.
        ArgumentTypeError: It holds numbers of another type, or is something else altogether.
    """
    if isinstance(image, str | os.PathLike):
        name = printable(os.fspath(image))
        if not Path(image).is_file():
            raise PathError(f"image must be a file, got {name}, which does not exist.")
        return decode(read_file(os.fsencode(image), name), name, background=background), name
    name = "image"
    if isinstance(image, bytes):
        return decode(image, name, background=background), name
    if isinstance(image, Tensor | np.ndarray):
        image = Image.fromarray(_bytes(image))
    if not isinstance(image, Image.Image):
        raise ArgumentTypeError(
            "image must be a path, bytes, an image of Pillow, an array or a tensor, got a"
            f" {type(image).__name__}. Several images come as a list."
        )
    try:
        return _rgb(ImageOps.exif_transpose(image), background), name
    # Pillow decodes when pixels are first asked for.
    except Exception as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{name}: cannot be read as an image: {reason}.") from error


def _bytes(image: Tensor | np.ndarray[Any, np.dtype[Any]]) -> UInt8[np.ndarray, "height width *channels"]:
    """The pixels of an array or a tensor as Pillow takes them."""
    is_tensor = isinstance(image, Tensor)
    kind, shape = "a tensor" if is_tensor else "an array", tuple(image.shape)
    channels = shape[0 if is_tensor else -1] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in (1, 3, 4) or 0 in shape:
        needed = "(channels, height, width)" if is_tensor else "(height, width, channels)"
        hint = " Several images come as a list: list(images)." if len(shape) == 4 else ""
        if len(shape) == 3 and shape[-1 if is_tensor else 0] in (1, 3, 4):
            hint = " image.permute(2, 0, 1) has it." if is_tensor else " image.transpose(1, 2, 0) has it."
        raise ArgumentError(
            f"image must have shape {needed} with 1, 3 or 4 channels, or (height, width), if it is {kind},"
            f" got {shape}.{hint}"
        )
    dtype = image.dtype
    pixels = image.detach().cpu() if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if pixels.is_floating_point():
        low, high = float(pixels.min()), float(pixels.max())
        # Not a number is in no range.
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise ArgumentError(
                f"image must hold numbers from 0 to 1 if they are floating-point, got {low:.4g} to"
                f" {high:.4g}. Give bytes (uint8) as they are; `classify` takes what is normalised already."
            )
        pixels = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
    elif pixels.dtype != torch.uint8:
        raise ArgumentTypeError(
            f"image must hold bytes (uint8) or floating-point numbers if it is {kind}, got {dtype}."
        )
    if pixels.ndim == 3:
        pixels = pixels.movedim(0, -1) if is_tensor else pixels
        pixels = pixels[..., 0] if channels == 1 else pixels
    return pixels.contiguous().numpy()


def decode(data: bytes, name: str, *, background: _Background = "white") -> Image.Image:
    """Decode an image to red, green and blue of a byte each, upright.

    The first of several images in one file. Grey of 16 bits keeps its upper 8, as colour of 16 bits does;
    numbers without a known range go from zero to their largest. A whole image is decoded or none: nothing is
    guessed behind the end of a truncated file.

    Args:
        data: The bytes of a file.
        name: The name of the file, for messages.
        background: What stands behind transparent parts: white, or black where what is opaque is light.

    Raises:
        DataError: The bytes cannot be decoded, or ask for too much, as `headers.opened` says; the message
            begins with the name.
    """
    with opened(data, name) as image:
        image.load()
        # The pixels are whole where the metadata are damaged.
        with suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image, background)


def _rgb(image: Image.Image, background: str) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        numbers = np.nan_to_num(np.asarray(image, dtype=np.float32)).clip(min=0)
        numbers *= 255 / max(float(numbers.max()), 1e-9)
        return Image.fromarray(numbers.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = "white"
        if background == "contrast":
            opacity = np.asarray(image.getchannel("A"), dtype=np.float32)
            grey = np.asarray(image.convert("L"), dtype=np.float32)
            # Whether the opaque part is nearer to white than to black.
            if (grey * opacity).sum() > 255 / 2 * opacity.sum():
                paper = "black"
        flat = Image.new("RGB", image.size, paper)
        flat.paste(image, mask=image)
        return flat
    return image.convert("RGB")


def crop_and_resize(image: Image.Image, box: Box, size: tuple[int, int]) -> UInt8[Tensor, "c height width"]:
    """A part of an image at another size: bicubic, averaged where it shrinks.

    torch does in a quarter of the time what Pillow does, but on a copy; the two differ by at most one of 255
    levels.

    Args:
        image: The image.
        box: The part.
        size: Height and width of the result.
    """
    part = image.crop(box)
    if part.width * part.height > _COPIED_PIXELS:
        return _channels_first(part.resize(size[::-1], Image.Resampling.BICUBIC))
    return interpolate(_channels_first(part)[None], size, mode="bicubic", antialias=True)[0]


def _channels_first(image: Image.Image) -> UInt8[Tensor, "c height width"]:
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
