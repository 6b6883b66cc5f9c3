"""Training settings by name: functions that return frozen configs."""

# They register what they define, in the order in which `lambdanets recipes` lists it.
from lambdanets.recipes import demo, detection, photos, small  # noqa: F401
from lambdanets.recipes.fit import fit_recipe, is_fitted, replace_data
from lambdanets.recipes.registry import (
    RECIPES,
    describe_recipe,
    get_recipe,
    parent_of,
    recipes_of,
    register_recipe,
    smoke_run,
)

__all__ = [
    "RECIPES",
    "describe_recipe",
    "fit_recipe",
    "get_recipe",
    "is_fitted",
    "parent_of",
    "recipes_of",
    "register_recipe",
    "replace_data",
    "smoke_run",
]
