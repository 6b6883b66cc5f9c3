"""Training settings by name: functions that return frozen configs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from lambdanets.errors import check_choice
from lambdanets.recipes.demo import (
    digits,
    digits_conv,
    pathfinder,
    pathfinder_conv,
    relation,
    relation_conv,
    semi,
    semi_student,
)
from lambdanets.training.config import TrainConfig
from lambdanets.training.settings import CkptConfig

RECIPES: Final[dict[str, Callable[[], TrainConfig]]] = {
    "digits": digits,
    "digits-conv": digits_conv,
    "semi": semi,
    "semi-student": semi_student,
    "relation": relation,
    "relation-conv": relation_conv,
    "pathfinder": pathfinder,
    "pathfinder-conv": pathfinder_conv,
}


def get_recipe(name: str) -> TrainConfig:
    """Give the config of a recipe by its name on the command line.

    Raises:
        ArgumentError: There is none of that name; the message has the nearest.
    """
    check_choice("get_recipe", "recipe", name, RECIPES)
    return RECIPES[name]()


def describe_recipe(name: str) -> dict[str, str]:
    """Give what a recipe's docstring says: its first line under "Summary", the others by their first word."""
    summary, *lines = (RECIPES[name].__doc__ or "").splitlines()
    fields = (line.strip().partition(": ") for line in lines)
    return {"Summary": summary, **{field: text for field, _, text in fields if text}}


def smoke_run(config: TrainConfig) -> TrainConfig:
    """Shorten a recipe to a few epochs with a checkpoint after each: the same path in about 15 seconds."""
    return replace(
        config,
        fast=True,
        sched=replace(config.sched, epochs=5, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=1, keep=config.ckpt.keep),
    )
