"""Recipes by name, and what their docstrings must say."""

import re
from dataclasses import replace

import pytest

from lambdanets.errors import ArgumentError
from lambdanets.models import list_models
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe, parent_of, recipes_of, smoke_run
from lambdanets.recipes.origins import lineage
from lambdanets.training.changes import differences
from lambdanets.training.config import DetectConfig, RunConfig, TrainConfig

# Those of data that are made here have been run, those of ImageNet have not, and say so.
RUN_HERE = r"\d+\.\d % of the (500 held-out digits|480 held-out images|1,000 held-out images).*"
OF_THE_PAPER = r"\d+\.\d % top-1 on ImageNet \(Table \d+.*\); not run here\."
WITHOUT_A_NUMBER = {
    "imagenet-lambda-resnet152-288": "none printed; 86.7 % with pseudo-labels (Table 18). Not run here.",
}


OF_A_DETECTOR = {
    "scenes-demo": r"\d+\.\d box AP and \d+\.\d mask AP on the 250 validation scenes \(seed 0\)\.",
    "coco-lambda-resnet101": r"49\.4 box AP and 43\.5 mask AP .* \(Table 14\); not run here\.",
    "coco-resnet50-1x": r"not known for our weights.*; not run here\.",
    "coco-resnet50-3x": r"not known for our weights; not run here\.",
}


@pytest.mark.parametrize("name", recipes_of(DetectConfig))
def test_a_recipe_of_a_detector_is_a_lab_note(name):
    fields = describe_recipe(name)
    assert re.fullmatch(OF_A_DETECTOR[name.removesuffix("-conv")], fields["Expected"])
    data = "COCO" if name.startswith("coco") else "scenes --processes 2"
    assert fields["Command"] == f"`lambdanets detect train {name} --data.root {data}`."
    assert {"Summary", "Paper", "Cost"} <= fields.keys()
    parent = parent_of(name)
    assert parent is None or len(differences(get_recipe(parent, RunConfig), get_recipe(name, RunConfig))) < 10


@pytest.mark.parametrize("name", recipes_of(TrainConfig))
def test_a_recipe_is_a_lab_note(name):
    fields = describe_recipe(name)
    reads_files = get_recipe(name, RunConfig).data.name == "folder"
    if name == "photos":
        assert fields["Expected"].startswith("depends on the images")
    elif name in WITHOUT_A_NUMBER:
        assert fields["Expected"] == WITHOUT_A_NUMBER[name]
    else:
        assert re.fullmatch(OF_THE_PAPER if reads_files else RUN_HERE, fields["Expected"])
    root = f" --data.root {'DIR' if name == 'photos' else 'IMAGENET'}" if reads_files else ""
    train = re.escape(f"train {name}{root}")
    assert re.fullmatch(rf"`lambdanets ({train}|pseudo iterate {name} .*)`\.", fields["Command"])
    assert {"Summary", "Paper", "Cost"} <= fields.keys()
    # What is not ours says where it is not the paper's.
    assert ("Departs" in fields) == name.startswith("imagenet")


@pytest.mark.parametrize("name", recipes_of(TrainConfig))
def test_a_recipe_names_the_one_it_is_derived_from(name):
    parent = parent_of(name)
    if parent is None:
        assert name in ("digits", "relation", "pathfinder", "photos", "imagenet-resnet50-90ep")
    else:
        assert parent in RECIPES and len(lineage(name)) <= 5
        # Closer to its parent than to a recipe it has nothing to do with.
        assert len(differences(get_recipe(parent, RunConfig), get_recipe(name, RunConfig))) < 25


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_knows_its_name_and_a_model(name):
    config = get_recipe(name, RunConfig)
    assert config.recipe == name
    assert config.model.name in list_models()
    assert config == get_recipe(name, RunConfig)


@pytest.mark.parametrize("name", ["digits", "relation", "pathfinder", "scenes-demo"])
def test_the_twin_differs_in_the_network_alone(name):
    changed = differences(get_recipe(name, RunConfig), get_recipe(f"{name}-conv", RunConfig))
    assert set(changed) <= {"recipe", "model.name", "model.overrides"}


def test_an_unknown_name_gets_the_nearest():
    message = (
        rf"get_recipe: unknown recipe 'digits-con'\. Closest: digits-conv.*`lambdanets recipes` lists all"
        rf" {len(RECIPES)}\."
    )
    with pytest.raises(ArgumentError, match=message):
        get_recipe("digits-con")


def test_a_field_may_run_over_several_lines():
    departs = describe_recipe("imagenet-resnet50-90ep")["Departs"]
    assert departs.startswith("313 steps an epoch instead of 312, so that no image is left out;")
    assert departs.endswith("the paper does not print them.")
    # Remarks above the fields belong to none.
    assert "momentum" not in " ".join(describe_recipe("imagenet-resnet50-90ep").values())


def test_a_smoke_run_is_the_same_run_made_short():
    config = get_recipe("digits")
    smoke = smoke_run(config)
    assert smoke.fast and smoke.ckpt.every_epochs == 1 and 1 < smoke.sched.epochs < 10
    assert replace(smoke, fast=False, sched=config.sched, ckpt=config.ckpt) == config
