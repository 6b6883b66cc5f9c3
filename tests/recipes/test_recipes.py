"""Recipes by name, and what their docstrings must say."""

import re
from dataclasses import replace

import pytest

from lambdanets.errors import ArgumentError
from lambdanets.models import list_models
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe, smoke_run
from lambdanets.training.config import differences


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_lab_note(name):
    fields = describe_recipe(name)
    judged = r"(500 held-out digits|480 held-out pictures|1,000 held-out pictures)"
    assert re.fullmatch(rf"\d+\.\d % of the {judged}.*", fields["Expected"])
    assert re.fullmatch(rf"`lambdanets (train {name}|pseudo rounds {name} .*)`\.", fields["Command"])
    assert {"Summary", "Paper", "Cost"} <= fields.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_knows_its_name_and_a_model(name):
    config = get_recipe(name)
    assert config.recipe == name
    assert config.model.name in list_models()
    assert config == get_recipe(name)


@pytest.mark.parametrize("name", ["digits", "relation", "pathfinder"])
def test_the_twin_differs_in_the_network_alone(name):
    changed = differences(get_recipe(name), get_recipe(f"{name}-conv"))
    assert set(changed) <= {"recipe", "model.name", "model.overrides"}


def test_an_unknown_name_gets_the_nearest():
    names = ", ".join(repr(name) for name in RECIPES)
    message = rf"recipe must be one of {names}, got 'digits-con'\. Closest: digits-conv"
    with pytest.raises(ArgumentError, match=message):
        get_recipe("digits-con")


def test_a_smoke_run_is_the_same_run_made_short():
    config = get_recipe("digits")
    smoke = smoke_run(config)
    assert smoke.fast and smoke.ckpt.every_epochs == 1 and 1 < smoke.sched.epochs < 10
    assert replace(smoke, fast=False, sched=config.sched, ckpt=config.ckpt) == config
