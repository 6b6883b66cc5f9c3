"""The recipes by name, and the fields of their docstrings."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar, overload

from lambdanets.data.config import FilesConfig
from lambdanets.data.detection import CocoConfig
from lambdanets.errors import ArgumentError, ArgumentTypeError, did_you_mean
from lambdanets.extensions import claim, import_hint
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


def register_recipe(function: Callable[[], Config]) -> Callable[[], Config]:
    """Register a recipe of your own, as a decorator: `my_photos` becomes the recipe my-photos.

    It is then known to `lambdanets.train`, to `lambdanets.get_recipe` and, by `--import MODULE`, to every
    command. Its docstring is shown by `lambdanets recipes`; fields such as `Expected: 98.2 %` and
    ``Derives: `digits` `` may follow the summary.

    Args:
        function: Without arguments; returns a `TrainConfig` or a `DetectConfig`.

    Returns:
        The function; its config has the recipe's name.

    Raises:
        ArgumentTypeError: It is no function without arguments, or returns something else.
        ArgumentError: The name is taken, or `Derives` names no recipe.

    Example:
        ::

            @lambdanets.register_recipe
            def short_digits() -> lambdanets.TrainConfig:
                '''The digits in three epochs.'''
                return lambdanets.get_recipe("digits").replace(sched={"epochs": 3})
    """
    name = getattr(function, "__name__", "").replace("_", "-")
    if not inspect.isfunction(function) or name == "<lambda>":
        raise ArgumentTypeError(f"register_recipe: recipe must be a function with a name, got {function!r}.")
    if inspect.signature(function).parameters:
        raise ArgumentTypeError(
            f"register_recipe: {function.__name__} must be a function without arguments, got"
            f" {function.__name__}{inspect.signature(function)}."
        )
    config = function()
    if not isinstance(config, RunConfig):
        raise ArgumentTypeError(
            f"register_recipe: {function.__name__} must return a TrainConfig or a DetectConfig, got a"
            f" {type(config).__name__}."
        )
    parent = _fields_of(function).get("Derives", "").strip("`.")
    if parent and (parent not in RECIPES or parent == name):
        raise ArgumentError(
            f"register_recipe: Derives of {name} must name another recipe, got {parent!r}."
            f"{did_you_mean(parent, RECIPES)}"
        )
    claim("register_recipe", "recipe", name, function, RECIPES)
    return recipe(function)


def recipes_of(kind: type[RunConfig]) -> list[str]:
    """List the recipes of classifiers (`TrainConfig`) or of detectors (`DetectConfig`), or all."""
    return [name for name, make in RECIPES.items() if isinstance(make(), kind)]


@overload
def get_recipe(name: str) -> TrainConfig: ...
@overload
def get_recipe(name: str, kind: type[Config]) -> Config: ...
def get_recipe(name: str, kind: type[RunConfig] = TrainConfig) -> RunConfig:
    """Return the config of a recipe: all settings of a training, to print, to change and to train.

    Args:
        name: One of `lambdanets recipes`.
        kind: The kind of config that is wanted: `TrainConfig` of a classifier, `DetectConfig` of a detector,
            `RunConfig` of either.

    Raises:
        ArgumentError: There is none of that name and kind; the message has the nearest.

    Example:
        >>> config = get_recipe("digits")
        >>> config.replace(seed=1, sched={"epochs": 3}).sched.epochs
        3
    """
    if name not in RECIPES:
        raise ArgumentError(
            f"get_recipe: unknown recipe {name!r}.{did_you_mean(name, RECIPES)}"
            f" `lambdanets recipes` lists all {len(RECIPES)}.{import_hint('recipe')}"
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
    the paper), Command (`lambdanets train NAME` by default). A config may have a name that is no recipe's:
    nothing is known about that.
    """
    if name not in RECIPES:
        return {"Summary": ""}
    config = get_recipe(name, RunConfig)
    files = {FilesConfig: " --data.root IMAGENET", CocoConfig: " --data.root COCO"}
    root = next((option for kind, option in files.items() if isinstance(config.data, kind)), "")
    return {"Command": f"`lambdanets {config.command} {name}{root}`.", **_fields_of(RECIPES[name])}


def _fields_of(function: _Recipe) -> dict[str, str]:
    """The fields of a docstring."""
    summary, *lines = inspect.cleandoc(function.__doc__ or "").splitlines() or [""]
    described, field = {"Summary": summary}, ""
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
