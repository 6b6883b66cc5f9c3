"""Seeds: all that is drawn at random follows from numbers, the first of which says what it is drawn for."""

import hashlib
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


class Purpose(IntEnum):
    """First numbers of seeds: what is drawn for one purpose is never drawn for another.

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


def purpose(name: str) -> int:
    """The purpose of a name, for data sets that are not listed above: a number of 32 bits above theirs."""
    return 2**31 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") // 2


def generator(purpose: int, *numbers: int) -> np.random.Generator:
    """A generator that follows from the numbers alone.

    Args:
        purpose: What it is for.
        numbers: Such as seed, epoch and index.
    """
    return np.random.default_rng((purpose, *numbers))


def permutation(num: int, purpose: int, *numbers: int) -> Int[Tensor, " num"]:
    """The integers from 0 to num - 1 in an order that follows from the numbers alone."""
    return torch.from_numpy(generator(purpose, *numbers).permutation(num))
