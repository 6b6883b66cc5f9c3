"""Two marks on an empty map: do they stand at one fixed offset from each other? Why positions matter."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lambdanets.data.seeds import Purpose, generator
from lambdanets.data.task import Seed, Task, drawn_task

LABELS: Final = ("apart", "related")
SIZE: Final = (20, 28)

# From the first mark to the second one, in rows and columns. No window of 11×11, which is what one unit of
# `resnet_relation` sees, holds both.
_OFFSET: Final = (3, 11)

# A mark is at least this far from the border, so that a local operation cannot know where it stands.
MARGIN: Final = 4

NUM_TRAIN: Final = 1920
NUM_TEST: Final = 480

# Standard deviation of the pixels: two marks among 560.
STD: Final = 0.0597

Place = tuple[int, int]
Labels = Int[Tensor, " n"]


def load(seed: int) -> Task:
    """Load the data set `relation`."""
    train, test = places()
    return drawn_task(
        partial(_draw_all, train),
        partial(_draw_all, test),
        labels=LABELS,
        num_images=(NUM_TRAIN, NUM_TEST),
        seed=seed,
        purposes=(Purpose.RELATION_ORDER, Purpose.RELATION_TRAINING, Purpose.RELATION_TEST),
    )


def places() -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """List the places of the first mark: of training, and a fifth, spread evenly, of the test alone."""
    height, width = SIZE
    every = [
        (row, column)
        for row in range(MARGIN, height - MARGIN - _OFFSET[0])
        for column in range(MARGIN, width - MARGIN - _OFFSET[1])
    ]
    test = tuple((row, column) for row, column in every if (2 * row + column) % 5 == 0)
    return tuple(place for place in every if place not in test), test


def draw(first: Place, second: Place) -> Float[Tensor, "1 20 28"]:
    """Draw a mark at the first place, and one at `_OFFSET` from the second: related where both are one."""
    image = torch.zeros(1, *SIZE)
    image[0, first[0], first[1]] = 1
    image[0, second[0] + _OFFSET[0], second[1] + _OFFSET[1]] = 1
    return image / STD


def _draw_all(where: Sequence[Place], seeds: Sequence[Seed], labels: Labels) -> Float[Tensor, "n 1 20 28"]:
    """An image for each seed, of the class beside it.

    Of both classes, the first mark is at each of its places equally often, and so is the second: a mark by
    itself says nothing, the pair alone does. Without positions (content lambdas alone) every image therefore
    gets one and the same score.
    """
    images = []
    for seed, is_related in zip(seeds, labels.tolist(), strict=True):
        first, second = generator(*seed).choice(len(where), size=2, replace=False)
        images.append(draw(where[first], where[first if is_related else second]))
    return torch.stack(images)
