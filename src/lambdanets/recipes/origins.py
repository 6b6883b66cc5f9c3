"""Where each setting of a run comes from: a default, a recipe, --fast or the command line."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from lambdanets.recipes import get_recipe, parent_of, smoke_run
from lambdanets.training.config import TrainConfig, flatten

_COMMAND_LINE = "command line"
_FAST = "--fast"
_DEFAULT = "default"

# Stands for an override that a model is not given, and for a setting that has no default.
_ABSENT = object()


class Setting(NamedTuple):
    """One value and where it comes from.

    Attributes:
        name: Dotted, such as `optim.learning_rate` or `model.overrides.dropout`.
        value: What holds.
        origin: `default`, `recipe NAME` (the first that set it), `--fast` or `command line`.
        recipe_value: The value in the recipe.
    """

    name: str
    value: object
    origin: str
    recipe_value: object

    @property
    def is_changed(self) -> bool:
        """Whether the run departs from its recipe here."""
        return self.origin in (_COMMAND_LINE, _FAST)


def settings_with_origins(config: TrainConfig) -> tuple[Setting, ...]:
    """Every setting of a config, with the place it was decided at.

    An override of the model that the recipe has and the run has not cannot be: the command line adds and
    replaces.
    """
    ancestors = [(name, _flat_settings(get_recipe(name))) for name in lineage(config.recipe)]
    smoke = _flat_settings(smoke_run(get_recipe(config.recipe))) if config.fast else {}
    defaults = dict(_defaults(config))
    found = []
    for name, value in _flat_settings(config).items():
        of_recipe = ancestors[0][1].get(name, _ABSENT)
        if value == of_recipe:
            origin = _first_to_set(name, value, ancestors, defaults)
        else:
            origin = _FAST if name in smoke and smoke[name] == value else _COMMAND_LINE
        stated = None if of_recipe is _ABSENT else of_recipe
        found.append(Setting(name, value, origin, stated))
    return tuple(found)


def lineage(recipe: str) -> tuple[str, ...]:
    """A recipe, the one it is derived from, and so on."""
    names = [recipe]
    while (parent := parent_of(names[-1])) is not None:
        names.append(parent)
    return tuple(names)


def _flat_settings(config: TrainConfig) -> dict[str, object]:
    """As `flatten`, with each override of the model by itself."""
    flat = flatten(config)
    del flat["model.overrides"], flat["recipe"]
    return flat | {f"model.overrides.{name}": value for name, value in config.model.overrides.items()}


def _first_to_set(
    name: str, value: object, ancestors: list[tuple[str, dict[str, object]]], defaults: dict[str, object]
) -> str:
    """The remotest recipe from which the value came down unchanged."""
    origin, *older = ancestors
    for ancestor in older:
        if ancestor[1].get(name, _ABSENT) != value:
            return f"recipe {origin[0]}"
        origin = ancestor
    return _DEFAULT if defaults.get(name, _ABSENT) == value else f"recipe {origin[0]}"


def _defaults(config: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in dataclasses.fields(config):
        inner = getattr(config, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _defaults(inner, f"{field.name}.")
        elif field.default is not dataclasses.MISSING:
            yield f"{prefix}{field.name}", field.default
