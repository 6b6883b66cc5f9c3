"""What a config's data set stands for: training pictures, test pictures, labels, preprocessing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from lambdanets.batches import TestData, TrainingData
from lambdanets.data import digits, relation
from lambdanets.data.digits import AugmentedDigits, load_digits
from lambdanets.data.ink import InkPreprocessing
from lambdanets.models import create_model
from lambdanets.training.config import TrainConfig
from lambdanets.training.settings import ModelConfig


def as_they_are(images: Tensor) -> Tensor:
    """The pictures themselves: they come as the network takes them."""
    return images


@dataclass(frozen=True, kw_only=True)
class Task:
    """Pictures to learn from, pictures to judge by, and what a foreign picture must become.

    Attributes:
        train: As training shows them.
        test: As they are stored.
        labels: The name of each class.
        in_channels: Channels of a picture.
        preprocessing: For files from outside; None where there can be none.
        prepare: From pictures of either to what the network takes, on its device.
    """

    train: TrainingData
    test: TestData
    labels: tuple[str, ...]
    in_channels: int
    preprocessing: InkPreprocessing | None
    prepare: Callable[[Tensor], Tensor] = as_they_are

    def make_model(self, config: ModelConfig) -> nn.Module:
        """The network for these pictures and labels."""
        return create_model(
            config.name, num_classes=len(self.labels), in_channels=self.in_channels, **config.overrides
        )


def load_task(config: TrainConfig) -> Task:
    """Load the data set of a config."""
    return _LOADERS[config.data.name](config)


def _relation(config: TrainConfig) -> Task:
    return Task(
        train=relation.RelationTraining(seed=config.seed),
        test=relation.RelationTest(),
        labels=relation.LABELS,
        in_channels=1,
        preprocessing=None,
    )


def _digits(config: TrainConfig) -> Task:
    train, test = load_digits()
    return Task(
        train=AugmentedDigits(
            digits=train,
            seed=config.seed,
            max_shift=config.data.max_shift,
            max_rotation=config.data.max_rotation,
            max_scaling=config.data.max_scaling,
        ),
        test=test,
        labels=digits.LABELS,
        in_channels=1,
        preprocessing=InkPreprocessing(),
    )


# Data set -> what loads it.
_LOADERS: Final[dict[str, Callable[[TrainConfig], Task]]] = {"digits": _digits, "relation": _relation}
