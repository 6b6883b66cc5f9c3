"""The bundled digits on the way of files: as PNG, and foreign images of digits made like them."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from lambdanets.data.decode import IMAGENET_MEAN, IMAGENET_STD, Plane
from lambdanets.data.digits import LABELS, Digits
from lambdanets.data.ink import InkPreprocessing
from lambdanets.data.transforms import Normalization, TestTransform

# Pixels of the file to one of the digit.
ENLARGED: Final = 4

# Digits reach to the border: a test cuts nothing off.
FRACTION: Final = 1.0


@dataclass(frozen=True, eq=False)
class DigitSource:
    """The digits as PNG files of 32×32 pixels, paper black and ink white.

    Attributes:
        digits: Those for training, or those for the test.
    """

    digits: Digits

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        return LABELS

    @property
    def targets(self) -> Int[Tensor, " n"]:
        """Which digit each one is."""
        return self.digits.labels

    def __len__(self) -> int:
        return len(self.digits)

    def name(self, index: int) -> str:
        """Which of the digits it is."""
        return f"digit {index}"

    def read(self, index: int) -> bytes:
        """The bytes of its file."""
        file = io.BytesIO()
        enlarged(self.digits.images[index, 0].numpy()).save(file, "PNG")
        return file.getvalue()


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
