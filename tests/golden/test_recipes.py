"""Every recipe resolves to the training that it stood for, and its old `config.json` stays readable."""

import json

import pytest

from golden.recorded import load
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.training.config import RunConfig, TrainConfig

STORED = load("recipes.json")


def test_every_stored_recipe_is_still_there() -> None:
    assert STORED.keys() <= RECIPES.keys()


@pytest.mark.parametrize("name", STORED)
def test_a_stored_config_is_read_as_the_recipe_of_today(name: str) -> None:
    assert TrainConfig.from_dict(STORED[name]) == get_recipe(name)


@pytest.mark.parametrize("name", STORED)
def test_a_recipe_of_today_survives_its_own_config_file(name: str) -> None:
    recipe = get_recipe(name, RunConfig)
    assert TrainConfig.from_dict(json.loads(recipe.to_json())) == recipe
