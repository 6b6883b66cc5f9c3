"""Image files decoded to pixels, upright, red, green and blue; parts of them at any size."""

import io
import warnings
from contextlib import suppress
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from lambdanets.data.preprocessing import Box
from lambdanets.errors import DataError

# Formats that Pillow may open: those of images, and no interpreters of page descriptions.
FORMATS: Final = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")

# Decoding stays below 1 GB, whatever the format: a whole process took 0.97 GB for a progressive CMYK JPEG of
# this size, 0.5 GB for a plain one. Some formats and modes take twice the memory, and get half the pixels.
_MAX_PIXELS: Final = 61_000_000
_HEAVY: Final = {"JPEG2000", "WEBP", "I", "F"}

# Larger parts of images are not copied: Pillow resizes them where they are, four times slower.
_COPIED_PIXELS: Final = 4_000_000


def decode(data: bytes, name: str, *, background: Literal["white", "contrast"] = "white") -> Image.Image:
    """Decode an image to red, green and blue of a byte each, upright.

    The first of several images in one file. Grey of 16 bits keeps its upper 8, as colour of 16 bits does;
    numbers without a known range go from zero to their largest. A whole image is decoded or none: nothing is
    guessed behind the end of a truncated file.

    Args:
        data: The bytes of a file.
        name: The name of the file, for messages.
        background: What stands behind transparent parts: white, or black where what is opaque is light.

    Raises:
        DataError: The bytes cannot be decoded, or are of more than `_MAX_PIXELS` pixels; the message begins
            with the name.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            # Oddities of metadata do not matter; an image larger than Pillow trusts is refused.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                most = _MAX_PIXELS // 2 if _HEAVY & {image.format, image.mode} else _MAX_PIXELS
                if image.width * image.height > most:
                    raise DataError(
                        f"{name}: must have at most {most:,} pixels, got {image.width}×{image.height}."
                    )
                image.load()
                # The pixels are whole where the metadata are damaged.
                with suppress(Exception):
                    ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image, background)
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
