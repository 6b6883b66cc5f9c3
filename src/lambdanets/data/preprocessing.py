"""From an image file to what a trained network takes: one class a method, stored beside its weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from lambdanets.data.decode import IMAGENET_MEAN, IMAGENET_STD, Plane, decode
from lambdanets.data.ink import InkPreprocessing
from lambdanets.data.sources import read_file
from lambdanets.data.task import Preprocessing
from lambdanets.data.transforms import Normalization, TestTransform
from lambdanets.errors import CheckpointError, PathError

# Pixels of the file to one of the digit.
ENLARGED: Final = 4

# Digits reach to the border: a test cuts nothing off.
FRACTION: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class CropPreprocessing:
    """The middle square of an image, as tests of images from files have it, normalised.

    Attributes:
        size: Side of the result, in pixels.
        fraction: Side of the square as a share of the image's shorter side; size / (size + 32) where none
            is given.
        mean: Of the pixels of each channel, between 0 and 1.
        std: Their standard deviation.
    """

    size: int
    fraction: float | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the name of the method."""
        return {"method": "crop", **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CropPreprocessing":
        """What `to_dict` gave."""
        return cls(
            size=values["size"],
            fraction=values["fraction"],
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
        )

    def read(self, path: Path, who: str = "predict") -> tuple[Float[Tensor, "3 size size"], bool]:
        """Read an image file; light and dark stay as they are.

        Raises:
            PathError: There is no such file.
            DataError: The file cannot be read.
        """
        if not path.is_file():
            raise PathError(f"{who}: image must be a file, got {path}, which does not exist.")
        name = f"{who}: {path}"
        pixels = TestTransform(size=self.size, fraction=self.fraction)(
            decode(read_file(bytes(path), name), name)
        )
        return Normalization(mean=self.mean, std=self.std)(pixels[None])[0], False

    def resized(self, size: int) -> "CropPreprocessing":
        """The same for an image of another size."""
        return replace(self, size=size)

    def shown(self, pixels: Float[Tensor, "3 height width"]) -> Float[np.ndarray, "height width 3"]:
        """What the network takes, between 0 and 1 again, to be drawn."""
        undone = Normalization(mean=self.mean, std=self.std).undone(pixels)
        return undone.permute(1, 2, 0).numpy().clip(0, 1)


def enlarged(ink: Plane) -> Image.Image:
    """Ink between 0 and 1 as a grey image, each pixel a square of pixels."""
    small = np.round(ink * 255).astype(np.uint8)
    return Image.fromarray(np.kron(small, np.ones((ENLARGED, ENLARGED), np.uint8)))


@dataclass(frozen=True, kw_only=True)
class DigitImagePreprocessing:
    """From any image of one digit to what a network takes that was trained on `DigitSource`.

    The steps of `InkPreprocessing` give the 8×8 pixels; these become a file's image as the bundled digits
    do, and then what the test makes of it.

    Attributes:
        size: Side of the result, in pixels.
        mean: Of the pixels of each channel, between 0 and 1.
        std: Their standard deviation.
    """

    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the name of the method."""
        return {"method": "digit-image", **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DigitImagePreprocessing":
        """What `to_dict` gave."""
        return cls(size=values["size"], mean=tuple(values["mean"]), std=tuple(values["std"]))

    def read(self, path: Path, who: str = "predict") -> tuple[Float[Tensor, "3 size size"], bool]:
        """Read an image file.

        Args:
            path: The file.
            who: The job that complains.

        Returns:
            The image as the network takes it, and whether dark and light were exchanged.

        Raises:
            PathError: There is no such file.
            DataError: The file cannot be read, or the image is blank.
        """
        ink, inverted = InkPreprocessing().ink(path, who)
        pixels = TestTransform(size=self.size, fraction=FRACTION)(enlarged(ink).convert("RGB"))
        return Normalization(mean=self.mean, std=self.std)(pixels[None])[0], inverted

    def resized(self, size: int) -> "DigitImagePreprocessing":
        """The same for an image of another size."""
        return DigitImagePreprocessing(size=size, mean=self.mean, std=self.std)

    def shown(self, pixels: Float[Tensor, "3 height width"]) -> Float[np.ndarray, "height width 3"]:
        """What the network takes, between 0 and 1 again, to be drawn."""
        undone = Normalization(mean=self.mean, std=self.std).undone(pixels)
        return undone.permute(1, 2, 0).numpy().clip(0, 1)


# Method -> what reads its description.
_METHODS: Final[dict[str, Callable[[Mapping[str, Any]], "Preprocessing"]]] = {
    "ink": InkPreprocessing.from_dict,
    "crop": CropPreprocessing.from_dict,
    "digit-image": DigitImagePreprocessing.from_dict,
}


def preprocessing_from_dict(values: Mapping[str, Any]) -> Preprocessing:
    """What the `to_dict` of any preprocessing gave.

    Raises:
        CheckpointError: The method is unknown, or its settings are not those it has here.
    """
    method = str(values.get("method"))
    if method not in _METHODS:
        raise CheckpointError(
            f"preprocessing: method must be one of {', '.join(map(repr, _METHODS))}, got {method!r}."
        )
    try:
        return _METHODS[method](values)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"preprocessing: {method!r} must have its settings, got {error}.") from error
