"""Two marks on an empty map: do they stand at one fixed offset from each other? Why positions matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lambdanets.data.seeds import Purpose, generator, permutation
from lambdanets.data.task import Batch, Task

LABELS: Final = ("apart", "related")
SIZE: Final = (20, 28)

# From the first mark to the second one, in rows and columns. No window of 11×11, which is what one unit of
# `resnet_relation` sees, holds both.
OFFSET: Final = (3, 11)

# A mark is at least this far from the border, so that what is local cannot tell where it stands.
MARGIN: Final = 4

NUM_TRAIN: Final = 1920
NUM_TEST: Final = 480

# Standard deviation of the pixels: two marks among 560.
STD: Final = 0.0597

Place = tuple[int, int]
Images = Float[Tensor, "n 1 20 28"]
Labels = Int[Tensor, " n"]


def load(seed: int) -> Task:
    """The marks as a data set."""
    return Task(train=RelationTraining(seed=seed), test=RelationTest(), labels=LABELS, in_channels=1)


def places() -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Where the first mark may stand, in training and in the test.

    The test's places, a fifth of all and spread evenly, are never shown in training.
    """
    height, width = SIZE
    every = [
        (row, column)
        for row in range(MARGIN, height - MARGIN - OFFSET[0])
        for column in range(MARGIN, width - MARGIN - OFFSET[1])
    ]
    test = tuple((row, column) for row, column in every if (2 * row + column) % 5 == 0)
    return tuple(place for place in every if place not in test), test


def draw(first: Place, second: Place) -> Float[Tensor, "1 20 28"]:
    """An image of two marks: one at the first place, the other at `OFFSET` from the second place.

    The marks are at the offset from each other when both places are one.
    """
    image = torch.zeros(1, *SIZE)
    image[0, first[0], first[1]] = 1
    image[0, second[0] + OFFSET[0], second[1] + OFFSET[1]] = 1
    return image / STD


@dataclass(frozen=True, kw_only=True)
class RelationTraining:
    """Training images, new ones in each epoch: a pure function of (seed, epoch, index).

    Images of even index are apart, those of odd index related. Of both, the first mark is at each of its
    places equally often, and so is the second: a mark by itself says nothing, the pair alone does. Without
    positions (content lambdas alone) every image therefore gets one and the same score.

    Attributes:
        seed: The seed of the run.
    """

    seed: int

    def __len__(self) -> int:
        return NUM_TRAIN

    def order(self, epoch: int) -> Labels:
        """The order of an epoch: each index once."""
        return permutation(len(self), Purpose.RELATION_ORDER, self.seed, epoch)

    def batch(self, epoch: int, indices: Labels) -> Batch:
        """The images of these indices in this epoch, and their labels."""
        train, _ = places()
        words = Purpose.RELATION_TRAINING, self.seed, epoch
        return Batch(torch.stack([_image(train, *words, int(index)) for index in indices]), indices % 2)


@dataclass(frozen=True)
class RelationTest:
    """The test images, the same ones for every seed."""

    def __len__(self) -> int:
        return NUM_TEST

    def batch(self, indices: Labels) -> Batch:
        """The images of these indices, and their labels."""
        _, test = places()
        images = [_image(test, Purpose.RELATION_TEST, int(index)) for index in indices]
        return Batch(torch.stack(images), indices % 2)


def _image(where: Sequence[Place], purpose: Purpose, *words: int) -> Float[Tensor, "1 20 28"]:
    """An image of the class of its index, the last word of its seed."""
    first, second = generator(purpose, *words).choice(len(where), size=2, replace=False)
    return draw(where[first], where[first if words[-1] % 2 else second])
