"""Image files as pixels: upright, grey or in colour, whole and at any size."""

import warnings
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
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)
_GREY_MEAN: Final = (sum(_MEAN) / 3,)
_GREY_STD: Final = (sum(_STD) / 3,)

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
        return _MEAN if self.channels == 3 else _GREY_MEAN

    @property
    def std(self) -> tuple[float, ...]:
        """What each pixel is then divided by, by channel."""
        return _STD if self.channels == 3 else _GREY_STD

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
    try:
        with warnings.catch_warnings():
            # A picture larger than Pillow trusts is refused, not only remarked.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{who}: {path} must be an image ({', '.join(FORMATS)}), got another kind of file."
        ) from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataError(f"{who}: {path} cannot be read as an image: {error}.") from error


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
