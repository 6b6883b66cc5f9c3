"""The recipes by name, and the fields of their docstrings."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar, overload

from lambdanets.data.config import FilesConfig
from lambdanets.data.detection import CocoConfig
from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.training.config import CkptConfig, RunConfig, TrainConfig

Config = TypeVar("Config", bound=RunConfig)

_Recipe = Callable[[], RunConfig]

# In the order of their definition.
RECIPES: Final[dict[str, _Recipe]] = {}

_FIELDS: Final = ("Paper", "Expected", "Cost", "Derives", "Departs", "Command")


def recipe(function: Callable[[], Config]) -> Callable[[], Config]:
    """Register a function that returns a config: `digits_conv` is the recipe digits-conv.

    Its docstring is a lab note: a summary, remarks, and fields such as `Expected: 98.2 % …`.
    """
    name = function.__name__.replace("_", "-")

    @functools.wraps(function)
    def named() -> Config:
        return replace(function(), recipe=name)

    RECIPES[name] = named
    return named


def recipes_of(kind: type[RunConfig]) -> list[str]:
    """List the recipes of classifiers (`TrainConfig`) or of detectors (`DetectConfig`), or all."""
    return [name for name, make in RECIPES.items() if isinstance(make(), kind)]


@overload
def get_recipe(name: str) -> RunConfig: ...
@overload
def get_recipe(name: str, kind: type[Config]) -> Config: ...
def get_recipe(name: str, kind: type[RunConfig] = RunConfig) -> RunConfig:
    """Return the config of a recipe.

    Args:
        name: The name of the recipe.
        kind: The kind of config that is wanted.

    Raises:
        ArgumentError: There is none of that name and kind; the message has the nearest.
    """
    if name not in RECIPES:
        raise ArgumentError(
            f"get_recipe: unknown recipe {name!r}.{did_you_mean(name, RECIPES)}"
            f" `lambdanets recipes` lists all {len(RECIPES)}."
        )
    config = RECIPES[name]()
    if not isinstance(config, kind):
        raise ArgumentError(
            f"get_recipe: {name} must be trained by `lambdanets {config.command}`, got another command."
        )
    return config


def describe_recipe(name: str) -> dict[str, str]:
    """Return the fields of a recipe's docstring, with its first line as "Summary".

    Fields: Paper (tables), Expected (result), Cost (time), Derives (the recipe it changes), Departs (from
    the paper), Command (`lambdanets train NAME` by default).
    """
    summary, *lines = (RECIPES[name].__doc__ or "").splitlines()
    config = get_recipe(name)
    files = {FilesConfig: " --data.root IMAGENET", CocoConfig: " --data.root COCO"}
    root = next((option for kind, option in files.items() if isinstance(config.data, kind)), "")
    described = {"Summary": summary, "Command": f"`lambdanets {config.command} {name}{root}`."}
    field = ""
    for line in map(str.strip, lines):
        name_of_field, colon, text = line.partition(": ")
        if colon and name_of_field in _FIELDS:
            field, described[name_of_field] = name_of_field, text
        elif not line:
            field = ""
        elif field:
            described[field] += f" {line}"
    return described


def parent_of(name: str) -> str | None:
    """Return the recipe that a recipe is derived from; None if it stands by itself."""
    derived = describe_recipe(name).get("Derives")
    return None if derived is None else derived.strip("`.")


def smoke_run(config: TrainConfig) -> TrainConfig:
    """Shorten a recipe to a few epochs with a checkpoint after each: the same path in about 15 seconds."""
    return replace(
        config,
        fast=True,
        sched=replace(config.sched, epochs=5, warmup_epochs=1.0),
        ckpt=CkptConfig(every_epochs=1, keep=config.ckpt.keep),
    )
