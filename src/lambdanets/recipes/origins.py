"""The origin of each setting of a run: a default, a recipe, --fast or the command line."""

from itertools import takewhile
from typing import Final, NamedTuple

from lambdanets.recipes.registry import RECIPES, get_recipe, parent_of, smoke_run
from lambdanets.training.changes import flatten, non_defaults
from lambdanets.training.config import RunConfig, TrainConfig

_COMMAND_LINE: Final = "command line"
_FAST: Final = "--fast"

# Stands for an override that a recipe does not have.
_ABSENT: Final = object()


class Setting(NamedTuple):
    """A setting with its origin.

    Attributes:
        name: Dotted name, such as `optim.learning_rate` or `model.overrides.dropout`.
        value: The value of the run.
        origin: `default`, `recipe NAME` (the first that set it), `--fast` or `command line`.
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


def settings_with_origins(config: RunConfig) -> tuple[Setting, ...]:
    """Return every setting of a config with its origin.

    Each override of the model is a setting; the command line adds and replaces overrides, and removes none.
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
        if not same:
            origin = _FAST if fast.get(name, _ABSENT) == value else _COMMAND_LINE
        elif len(same) == len(recipes) and name not in changed and not name.startswith("model.overrides."):
            origin = "default"
        else:
            origin = f"recipe {same[-1]}"
        settings.append(Setting(name, value, origin, recipe.get(name)))
    return tuple(settings)


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
