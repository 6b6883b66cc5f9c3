"""Image files as pixels: upright, grey or in colour, whole and at any size."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lambdanets.errors import ArgumentError, DataError, PathError, check_positive

# What Pillow may open: formats that hold images, and no interpreters of page descriptions.
FORMATS: Final = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")

# Of ImageNet's pixels, between 0 and 1. Grey has the mean of the three.
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_GREY_MEAN: Final = (sum(IMAGENET_MEAN) / 3,)
_GREY_STD: Final = (sum(IMAGENET_STD) / 3,)

# Of an image to train or test with: its decoding stays below 1 GB, whatever the format. A whole process took
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
    """The whole image at another size, its shape kept, normalised by ImageNet's mean and deviation.

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

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the name of the method."""
        return {"method": "whole", **asdict(self)}

    def resized(self, size: int) -> "PlainPreprocessing":
        """The same for an image of another size."""
        return replace(self, size=size)

    def shown(
        self, pixels: Float[Tensor, "c height width"]
    ) -> Float[np.ndarray, "height width"] | Float[np.ndarray, "height width 3"]:
        """What the network takes, between 0 and 1 again, to be drawn."""
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        undone = (pixels * std + mean).numpy().clip(0, 1)
        return undone[0] if len(undone) == 1 else np.moveaxis(undone, 0, -1)

    def read(self, path: Path, who: str = "predict") -> tuple[Float[Tensor, "c height width"], bool]:
        """Read an image file as the network takes it; light and dark stay as they are.

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
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (pixels - mean) / std, False


def read_grey(path: Path, who: str) -> Plane:
    """Read an image file as brightness from 0 to 1, upright, with transparent parts as paper.

    Raises:
        PathError: There is no such file.
        DataError: The file cannot be read.
    """
    image = open_image(path, who)
    if _is_deep(image):
        deep: Plane = np.asarray(image, dtype=np.float32)
        return deep / np.float32(max(deep.max(), 1e-9))
    if image.has_transparency_data:
        return _on_paper(image.convert("RGBA"))
    return np.asarray(image.convert("RGB").convert("L"), dtype=np.float32) / 255


def read_color(path: Path, who: str) -> Float[np.ndarray, "3 height width"]:
    """Read an image file as red, green and blue from 0 to 1, upright, with transparent parts white.

    Raises:
        PathError: There is no such file.
        DataError: The file cannot be read.
    """
    image = open_image(path, who)
    if _is_deep(image):
        return np.repeat(read_grey(path, who)[None], 3, axis=0)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def open_image(path: Path, who: str) -> Image.Image:
    """Open an image file and turn it upright.

    Raises:
        PathError: There is no such file.
        DataError: The file cannot be read.
    """
    if not path.is_file():
        raise PathError(f"{who}: image must be a file, got {path}, which does not exist.")
    with _explained(f"{who}: {path}"), Image.open(path, formats=FORMATS) as image:
        return ImageOps.exif_transpose(image)


def decode(data: bytes, name: str) -> Image.Image:
    """Make an image of encoded bytes: red, green and blue of a byte each, upright, on white.

    Of several images in one file it is the first. Of 16 bits of grey the upper 8 count, as of 16 bits of
    colour; numbers without a known range go from zero to their largest. A whole image is decoded or none:
    nothing is guessed behind the end of a truncated file.

    Args:
        data: A file's bytes.
        name: Where they are from, for messages.

    Raises:
        DataError: They cannot be decoded, or the pixels are more than `MAX_PIXELS`; the message begins
            with the name.
    """
    with _explained(f"{name}:"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        most = MAX_PIXELS // 2 if {image.format, image.mode} & {*_HEAVY} else MAX_PIXELS
        if image.width * image.height > most:
            raise DataError(f"{name}: must have at most {most:,} pixels, got {image.width}×{image.height}.")
        image.load()
        return _rgb(_upright(image))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Make errors about the file of a name of all that Pillow raises."""
    try:
        with warnings.catch_warnings():
            # Oddities of metadata do not matter; an image larger than Pillow trusts is refused.
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


def _upright(image: Image.Image) -> Image.Image:
    orientation = None
    # Pixels are whole where the metadata are damaged.
    with suppress(Exception):
        orientation = image.getexif().get(_ORIENTATION)
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if _is_deep(image):
        deep = np.nan_to_num(np.asarray(image, dtype=np.float32)).clip(min=0)
        deep *= 255 / max(float(deep.max()), 1e-9)
        return Image.fromarray(deep.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        paper = Image.new("RGB", image.size, "white")
        image = image.convert("RGBA")
        paper.paste(image, mask=image)
        return paper
    return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether a pixel is one number of more than 8 bits, whose largest is not known."""
    return image.mode.startswith("I") or image.mode == "F"


def _on_paper(image: Image.Image) -> Plane:
    # Light ink without a background of its own needs dark paper.
    opacity = np.asarray(image.getchannel("A"), dtype=np.float32) / 255
    grey = np.asarray(image.convert("RGB").convert("L"), dtype=np.float32) / 255
    light = (grey * opacity).sum() > opacity.sum() / 2
    paper = 0.0 if light else 1.0
    blended: Plane = grey * opacity + paper * (1 - opacity)
    return blended
