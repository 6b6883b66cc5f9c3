"""The digits with 200 labels: what a teacher learns from, and what it gives labels to."""

from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Bool
from torch import Tensor

from lambdanets.data.config import SemiConfig
from lambdanets.data.digits import LABELS, NUM_CLASSES, Digits, digits_task, load_digits, moved
from lambdanets.data.seeds import Purpose, generator
from lambdanets.data.task import Task, Unlabelled
from lambdanets.errors import ArgumentError

NUM_LABELLED: Final = 200


@dataclass(frozen=True, kw_only=True)
class Semi:
    """The digits in three parts.

    Attributes:
        labelled: The images whose labels are used, as many of each class.
        unlabelled: The other training images. Their labels count a teacher's mistakes and nothing else.
        test: The 500 images that `digits` is tested with.
    """

    labelled: Digits
    unlabelled: Digits
    test: Digits


def load(config: SemiConfig, seed: int) -> Task:
    """The labelled digits as a data set, the others for a teacher."""
    semi = load_semi(seed)
    unlabelled = Unlabelled(
        shown=moved(config, seed, semi.unlabelled),
        clean=semi.unlabelled,
        labels=LABELS,
        targets=semi.unlabelled.labels,
    )
    return replace(digits_task(config, seed, semi.labelled, semi.test), unlabelled=unlabelled)


def load_semi(seed: int) -> Semi:
    """Load the digits and choose the labelled ones.

    Args:
        seed: Of the run: another one labels other images.

    Raises:
        DependencyError: scikit-learn is not installed.
        DataError: The installed scikit-learn bundles something else.
    """
    train, test = load_digits()
    chosen = choose(train, NUM_LABELLED // NUM_CLASSES, seed)
    return Semi(labelled=_part(train, chosen), unlabelled=_part(train, ~chosen), test=test)


def choose(digits: Digits, num_each: int, seed: int) -> Bool[Tensor, " n"]:
    """Choose images at random, as many of each class.

    Args:
        digits: The images to choose from.
        num_each: How many of each class.
        seed: Decides which.

    Returns:
        True where an image is chosen.
    """
    rng = generator(Purpose.LABELLED_DIGITS, seed)
    chosen = torch.zeros(len(digits), dtype=torch.bool)
    for label in range(NUM_CLASSES):
        (those,) = torch.nonzero(digits.labels == label, as_tuple=True)
        if len(those) < num_each:
            raise ArgumentError(
                f"choose: num_each must be at most the images of a class, {len(those)} of"
                f" {label}, got {num_each}."
            )
        chosen[those[rng.permutation(len(those))[:num_each]]] = True
    return chosen


def _part(digits: Digits, chosen: Bool[Tensor, " n"]) -> Digits:
    return Digits(digits.images[chosen], digits.labels[chosen])
