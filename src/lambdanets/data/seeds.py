"""What is drawn at random: all of it follows from words, the first of which says what for."""

from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


class Purpose(IntEnum):
    """First words: what is drawn for one purpose is never drawn for another.

    A number keeps its meaning: another one would change every run of its data set.
    """

    DIGITS_ORDER = 1
    DIGITS_MOTION = 2
    RELATION_ORDER = 3
    RELATION_TRAINING = 4
    RELATION_TEST = 5
    IMAGES_ORDER = 6
    CROP = 7
    OPERATIONS = 8
    MIX = 9
    PATHFINDER_ORDER = 10
    PATHFINDER_TRAINING = 11
    PATHFINDER_TEST = 12
    PSEUDO_ORDER = 13
    LABELLED_DIGITS = 14
    SHARDS_ORDER = 15


def generator(purpose: Purpose, *words: int) -> np.random.Generator:
    """Numbers that follow from the words alone.

    Args:
        purpose: What they are for.
        words: Such as seed, epoch and index.
    """
    return np.random.default_rng((purpose, *words))


def permutation(num: int, purpose: Purpose, *words: int) -> Int[Tensor, " num"]:
    """The numbers from 0 to num - 1 in the order that the words decide."""
    return torch.from_numpy(generator(purpose, *words).permutation(num))
