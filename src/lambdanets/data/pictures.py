"""Image files as pixels: upright, grey or in colour, whole and at any size."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lambdanets.errors import ArgumentError, DataError, PathError, check_positive

# What Pillow may open: formats that hold pictures, and no interpreters of page descriptions.
FORMATS: Final = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")

# Of ImageNet's pixels, between 0 and 1. Grey has the mean of the three.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_GREY_MEAN: Final = (sum(IMAGENET_MEAN) / 3,)
_GREY_STD: Final = (sum(IMAGENET_STD) / 3,)

# Of a picture to train or test with: its decoding stays below 1 GB, whatever the format. A whole process took
# 0.97 GB for a progressive CMYK JPEG of this size, 0.5 GB for a plain one. Some formats and modes take twice
# the memory, and get half the pixels.
MAX_PIXELS: Final = 61_000_000
_HEAVY: Final = ("JPEG2000", "WEBP", "I", "F")

# What undoes each value of the EXIF field of this number.
_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Plane = Float[np.ndarray, "_ _"]


@dataclass(frozen=True, kw_only=True)
class PlainPreprocessing:
    """The whole picture at another size, its shape kept, normalised by ImageNet's mean and deviation.

    Attributes:
        size: The shorter side of the result, in pixels.
        channels: 3 for colour, 1 for grey.
    """

    size: int
    channels: int = 3

    def __post_init__(self) -> None:
        """Check both."""
        check_positive("PlainPreprocessing", size=self.size)
        if self.channels not in (1, 3):
            raise ArgumentError(
                f"PlainPreprocessing: channels must be 1 (grey) or 3 (colour), got {self.channels}."
            )

    @property
    def mean(self) -> tuple[float, ...]:
        """Subtracted from each pixel, by channel."""
        return IMAGENET_MEAN if self.channels == 3 else _GREY_MEAN

    @property
    def std(self) -> tuple[float, ...]:
        """What each pixel is then divided by, by channel."""
        return IMAGENET_STD if self.channels == 3 else _GREY_STD

    def read(self, path: Path, who: str) -> Float[Tensor, "c height width"]:
        """Read an image file as the network takes it.

        Args:
            path: The file.
            who: The job that complains.

        Raises:
            PathError: There is no such file.
            DataError: The file cannot be read.
        """
        pixels = torch.from_numpy(read_color(path, who) if self.channels == 3 else read_grey(path, who)[None])
        scale = self.size / min(pixels.shape[1:])
        size = [max(self.size, round(scale * side)) for side in pixels.shape[1:]]
        pixels = torch.nn.functional.interpolate(
            pixels[None], size, mode="bicubic", antialias=True, align_corners=False
        )[0].clamp(0, 1)
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


def read_grey(path: Path, who: str) -> Plane:
    """Read an image file as brightness from 0 to 1, upright, with transparent parts as paper.

    Raises:
        PathError: There is no such file.
        DataError: The file cannot be read.
    """
    picture = open_picture(path, who)
    if _is_deep(picture):
        deep: Plane = np.asarray(picture, dtype=np.float32)
        return deep / np.float32(max(deep.max(), 1e-9))
    if picture.has_transparency_data:
        return _on_paper(picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB").convert("L"), dtype=np.float32) / 255


def read_color(path: Path, who: str) -> Float[np.ndarray, "3 height width"]:
    """Read an image file as red, green and blue from 0 to 1, upright, with transparent parts white.

    Raises:
        PathError: There is no such file.
        DataError: The file cannot be read.
    """
    picture = open_picture(path, who)
    if _is_deep(picture):
        return np.repeat(read_grey(path, who)[None], 3, axis=0)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def open_picture(path: Path, who: str) -> Image.Image:
    """Open an image file and turn it upright.

    Raises:
        PathError: There is no such file.
        DataError: The file cannot be read.
    """
    if not path.is_file():
        raise PathError(f"{who}: image must be a file, got {path}, which does not exist.")
    with _explained(f"{who}: {path}"), Image.open(path, formats=FORMATS) as picture:
        return ImageOps.exif_transpose(picture)


def decode(data: bytes, name: str) -> Image.Image:
    """Make a picture of encoded bytes: red, green and blue of a byte each, upright, on white.

    Of several pictures in one file it is the first. Of 16 bits of grey the upper 8 count, as of 16 bits of
    colour; numbers without a known range go from zero to their largest. A whole picture is decoded or none:
    nothing is guessed behind the end of a truncated file.

    Args:
        data: A file's bytes.
        name: Where they are from, for messages.

    Raises:
        DataError: They cannot be decoded, or the pixels are more than `MAX_PIXELS`; the message begins
            with the name.
    """
    with _explained(f"{name}:"), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        most = MAX_PIXELS // 2 if {picture.format, picture.mode} & {*_HEAVY} else MAX_PIXELS
        if picture.width * picture.height > most:
            raise DataError(
                f"{name}: must have at most {most:,} pixels, got {picture.width}×{picture.height}."
            )
        picture.load()
        return _rgb(_upright(picture))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Make errors about the file of a name of all that Pillow raises."""
    try:
        with warnings.catch_warnings():
            # Oddities of metadata do not matter; a picture larger than Pillow trusts is refused.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} must be an image ({', '.join(FORMATS)}), got another kind of file."
        ) from error
    except Exception as error:
        # Damaged bytes lead decoders to errors of any kind, and say nothing of this program.
        why = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{name} cannot be read as an image: {why}.") from error


def _upright(picture: Image.Image) -> Image.Image:
    orientation = None
    # Pixels are whole where the metadata are damaged.
    with suppress(Exception):
        orientation = picture.getexif().get(_ORIENTATION)
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if method is None else picture.transpose(method)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return picture
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if _is_deep(picture):
        deep = np.nan_to_num(np.asarray(picture, dtype=np.float32)).clip(min=0)
        deep *= 255 / max(float(deep.max()), 1e-9)
        return Image.fromarray(deep.round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        paper = Image.new("RGB", picture.size, "white")
        picture = picture.convert("RGBA")
        paper.paste(picture, mask=picture)
        return paper
    return picture.convert("RGB")


def _is_deep(picture: Image.Image) -> bool:
    """Whether a pixel is one number of more than 8 bits, whose largest is not known."""
    return picture.mode.startswith("I") or picture.mode == "F"


def _on_paper(picture: Image.Image) -> Plane:
    # Light ink without a background of its own needs dark paper.
    opacity = np.asarray(picture.getchannel("A"), dtype=np.float32) / 255
    grey = np.asarray(picture.convert("RGB").convert("L"), dtype=np.float32) / 255
    light = (grey * opacity).sum() > opacity.sum() / 2
    paper = 0.0 if light else 1.0
    blended: Plane = grey * opacity + paper * (1 - opacity)
    return blended
