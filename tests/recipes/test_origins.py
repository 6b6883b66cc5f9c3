"""Where each setting of a run comes from."""

from dataclasses import replace

from lambdanets.recipes import get_recipe, smoke_run
from lambdanets.recipes.origins import lineage, settings_with_origins


def origins(config):
    return {setting.name: setting.origin for setting in settings_with_origins(config)}


def test_a_value_belongs_to_the_first_recipe_that_set_it():
    found = origins(get_recipe("imagenet-lambda-resnet152-256"))
    assert found["label_smoothing"] == "recipe imagenet-resnet50-90ep"
    assert found["sched.epochs"] == "recipe imagenet-lambda-resnet50-128"
    assert found["model.name"] == found["model.overrides.dropout"] == "recipe imagenet-lambda-resnet152-256"
    assert found["optim.momentum"] == found["seed"] == found["faults.nonfinite"] == "default"


def test_the_command_line_and_fast_are_told_apart():
    recipe = get_recipe("digits")
    smoke = smoke_run(recipe)
    config = replace(smoke, optim=replace(smoke.optim, learning_rate=0.7))
    found = {setting.name: setting for setting in settings_with_origins(config)}
    assert found["optim.learning_rate"].origin == "command line"
    assert found["optim.learning_rate"].recipe_value == recipe.optim.learning_rate
    assert found["sched.epochs"].origin == found["fast"].origin == "--fast"
    assert [setting.name for setting in found.values() if setting.is_changed] == [
        *("optim.learning_rate", "sched.epochs", "sched.warmup_epochs", "ckpt.every_epochs", "fast")
    ]


def test_an_override_that_is_added_is_the_command_lines():
    recipe = get_recipe("imagenet-lambda-resnet50-90ep")
    overrides = {**recipe.model.overrides, "scope_size": None, "image_size": 288}
    config = replace(recipe, model=replace(recipe.model, overrides=overrides))
    found = {setting.name: setting for setting in settings_with_origins(config)}
    assert found["model.overrides.scope_size"].origin == "command line"
    size = found["model.overrides.image_size"]
    assert (size.value, size.recipe_value, size.origin) == (288, 224, "command line")


def test_a_value_set_back_to_the_default_by_a_later_recipe_is_that_recipes():
    # Dropout is 0.3 in its parent, and 0.1 here; the momentum of all is the default.
    found = origins(get_recipe("imagenet-350ep-small"))
    assert found["model.overrides.dropout"] == "recipe imagenet-350ep-small"
    assert lineage("imagenet-350ep-small")[1:] == (
        "imagenet-lambda-resnet152-256",
        "imagenet-lambda-resnet50-128",
        "imagenet-resnet50-90ep",
    )
