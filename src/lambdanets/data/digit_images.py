"""The bundled digits on the way of files: as PNG, and foreign images of digits made like them."""

import io
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from lambdanets.data.config import AugmentConfig, DigitImagesConfig
from lambdanets.data.digits import LABELS, Digits, load_digits
from lambdanets.data.images import ImageTest, training_images
from lambdanets.data.preprocessing import FRACTION, DigitImagePreprocessing, enlarged
from lambdanets.data.task import Task
from lambdanets.data.transforms import Normalization, TestTransform


def load(config: DigitImagesConfig, seed: int, augment: AugmentConfig, max_unreadable: int) -> Task:
    """The digits as files, as a data set."""
    train, test = (DigitSource(part) for part in load_digits())
    return Task(
        train=training_images(train, config, seed, augment, max_unreadable),
        test=ImageTest(source=test, transform=TestTransform(size=config.test_size, fraction=FRACTION)),
        labels=LABELS,
        in_channels=3,
        preprocessing=DigitImagePreprocessing(size=config.test_size),
        prepare=Normalization(),
    )


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
