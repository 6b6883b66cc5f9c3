"""The origin of each setting of a run, and whether what its recipe expects can be compared with it."""

from collections.abc import Collection
from itertools import takewhile
from typing import Final, NamedTuple

from lambdanets.data.parts import PartsConfig
from lambdanets.recipes.detection import NUM_COCO_CATEGORIES
from lambdanets.recipes.fit import is_fitted
from lambdanets.recipes.imagenet import NUM_CLASSES
from lambdanets.recipes.registry import RECIPES, describe_recipe, get_recipe, parent_of, smoke_run
from lambdanets.training.changes import flatten, non_defaults
from lambdanets.training.config import RunConfig, TrainConfig

_COMMAND_LINE: Final = "command line"
_FAST: Final = "--fast"
_IMAGES: Final = "the images"

# Settings on which a result does not depend, beside those of whole groups.
_FREE: Final = ("seed", "num_threads")

# Classes of the data sets that a recipe names by the first word of its name, and whose place a run gives.
_NUM_CLASSES: Final = {"imagenet": NUM_CLASSES, "coco": NUM_COCO_CATEGORIES}

# Most settings that a sentence names.
_MOST_NAMED: Final = 3

# Stands for an override that a recipe does not have.
_ABSENT: Final = object()


class Setting(NamedTuple):
    """A setting with its origin.

    Attributes:
        name: Dotted name, such as `optim.learning_rate` or `model.overrides.dropout`.
        value: The value of the run.
        origin: `default`, `recipe NAME` (the first that set it), `the images` (a choice by the data),
            `--fast` or `command line`.
        recipe_value: The value of the recipe.
    """

    name: str
    value: object
    origin: str
    recipe_value: object

    @property
    def is_changed(self) -> bool:
        """Whether the run differs from its recipe here."""
        return self.origin in (_COMMAND_LINE, _FAST)


def settings_with_origins(config: RunConfig, given: Collection[str] | None = None) -> tuple[Setting, ...]:
    """Return every setting of a config with its origin.

    Each override of the model is a setting; the command line adds and replaces overrides, and removes none.

    Args:
        config: The settings.
        given: Dotted names of those that somebody gave; others that differ from the recipe were chosen by the
            images. None: all that differ were given.
    """
    known = config.recipe in RECIPES
    # A config that no recipe made stands for its own.
    recipes = {
        name: _flat_settings(get_recipe(name, RunConfig) if known else config)
        for name in lineage(config.recipe)
    }
    recipe = recipes[config.recipe]
    fast = {}
    if isinstance(config, TrainConfig) and config.fast and known:
        fast = _flat_settings(smoke_run(get_recipe(config.recipe, TrainConfig)))
    changed = non_defaults(config)
    settings = []
    for name, value in _flat_settings(config).items():
        same = _recipes_with(name, value, recipes)
        if name not in recipe and name not in changed and not name.startswith("model.overrides."):
            origin = "default"
        elif not same and fast.get(name, _ABSENT) == value:
            origin = _FAST
        elif not same:
            is_given = given is None or name in given or name.rpartition(".")[0] in given
            origin = _COMMAND_LINE if is_given else _IMAGES
        elif len(same) == len(recipes) and name not in changed and not name.startswith("model.overrides."):
            origin = "default"
        else:
            origin = f"recipe {same[-1]}"
        settings.append(Setting(name, value, origin, recipe.get(name)))
    return tuple(settings)


def describe_reference(config: RunConfig, num_classes: int) -> str:
    """Say what the recipe of a run expects, or which settings differ, so that the run is no test of it.

    Seed, threads, device, processes and checkpoints may differ, and so may the place of the data, which the
    recipe does not know.

    Args:
        config: The settings of the run.
        num_classes: Classes of its data.
    """
    described = describe_recipe(config.recipe) if config.recipe in RECIPES else {}
    if "Expected" not in described:
        return "none"
    if is_fitted(config.recipe):
        return "none: what to expect depends on the images"
    recipe, run = _flat_settings(get_recipe(config.recipe, RunConfig)), _flat_settings(config)
    # What a teacher labelled is given to the recipe of a student.
    free = ("exec.", "ckpt.", "faults.", *(["pseudo."] if "pseudo iterate" in described["Command"] else []))
    names = [name for name in {**run, **recipe} if not name.startswith(free) and name not in _FREE]
    differing = [name for name in names if recipe.get(name, _ABSENT) != run.get(name, _ABSENT)]
    if "data.name" in differing:
        # Another data set has settings of its own.
        differing = ["data.name", *(name for name in differing if not name.startswith("data."))]
    elif "data.root" in differing and recipe.get("data.root") in ("", _typed_root(config)):
        differing.remove("data.root")
        wanted = _NUM_CLASSES.get(config.recipe.partition("-")[0], num_classes)
        if num_classes != wanted:
            return f"none: it is for {wanted} classes, here are {num_classes}"
    if differing:
        more = f" and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
        verb = "differs" if len(differing) == 1 else "differ"
        return f"none: {', '.join(differing[:_MOST_NAMED])}{more} {verb} from the recipe"
    return described["Expected"].rstrip(".")


def _typed_root(config: RunConfig) -> str | None:
    return config.data.root_given if isinstance(config.data, PartsConfig) else None


def lineage(recipe: str) -> tuple[str, ...]:
    """Return a recipe, the one it is derived from, and so on."""
    parent = parent_of(recipe)
    return (recipe, *(lineage(parent) if parent else ()))


def _recipes_with(name: str, value: object, recipes: dict[str, dict[str, object]]) -> list[str]:
    """List the recipes with this value, from the last one back to the one that set it."""
    return [*takewhile(lambda recipe: recipes[recipe].get(name, _ABSENT) == value, recipes)]


def _flat_settings(config: RunConfig) -> dict[str, object]:
    flat = flatten(config)
    del flat["model.overrides"], flat["recipe"]
    return flat | {f"model.overrides.{name}": value for name, value in config.model.overrides.items()}
