"""What a config's data set stands for: training pictures, test pictures, labels, preprocessing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from torch import nn

from lambdanets.data import digits, relation
from lambdanets.data.digits import AugmentedDigits, load_digits
from lambdanets.data.ink import InkPreprocessing
from lambdanets.models import create_model
from lambdanets.training.config import ModelConfig, TrainConfig
from lambdanets.training.loop import TrainingData
from lambdanets.training.metrics import Batch

# More pictures at once are no faster on a processor core, and this many fit anywhere.
_TEST_BATCH: Final = 250


@runtime_checkable
class TestData(Protocol):
    """Pictures to judge by."""

    def __len__(self) -> int:
        """How many pictures there are."""
        ...

    def batches(self, size: int) -> Iterator[Batch]:
        """Each picture once in order, as a network takes it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """Pictures to learn from, pictures to judge by, and what a foreign picture must become.

    Attributes:
        train: As training shows them.
        test: As they are stored.
        labels: The name of each class.
        in_channels: Channels of a picture.
        preprocessing: For files from outside; None where there can be none.
    """

    train: TrainingData
    test: TestData
    labels: tuple[str, ...]
    in_channels: int
    preprocessing: InkPreprocessing | None

    def test_batches(self) -> Iterator[Batch]:
        """Each test picture once, in stored order."""
        return self.test.batches(_TEST_BATCH)

    def make_model(self, config: ModelConfig) -> nn.Module:
        """The network for these pictures and labels."""
        return create_model(
            config.name, num_classes=len(self.labels), in_channels=self.in_channels, **config.overrides
        )


def load_task(config: TrainConfig) -> Task:
    """Load the data set of a config."""
    return _relation(config) if config.data.name == "relation" else _digits(config)


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
