"""What a recipe expects is compared with runs of its own settings alone."""

from dataclasses import replace

import pytest

from lambdanets.data.config import FolderConfig
from lambdanets.recipes import describe_recipe, get_recipe, smoke_run
from lambdanets.recipes.origins import describe_reference
from lambdanets.training.config import CkptConfig, ExecConfig, ModelConfig, PseudoConfig

DIGITS = get_recipe("digits")
EXPECTED = "98.8 % of the 500 held-out digits (seeds 0 to 4: 97.8 to 99.2 %)"
IMAGENET = get_recipe("imagenet-resnet50-90ep")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 3},
        {"num_threads": 2},
        {"exec": ExecConfig(device="cpu", num_workers=1)},
        {"ckpt": CkptConfig(keep=1)},
    ],
)
def test_seed_and_machine_may_differ(changes):
    assert describe_reference(replace(DIGITS, **changes), 10) == EXPECTED


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (replace(DIGITS, ema_decay=None), "none: ema_decay differs from the recipe"),
        (
            replace(DIGITS, model=ModelConfig(name="resnet_digits")),
            "none: model.name differs from the recipe",
        ),
        (
            replace(DIGITS, model=replace(DIGITS.model, overrides={"num_heads": 2})),
            "none: model.overrides.num_heads differs from the recipe",
        ),
        (
            replace(DIGITS, data=FolderConfig(root="photos")),
            "none: data.name differs from the recipe",
        ),
        (smoke_run(DIGITS), "none: sched.epochs, sched.warmup_epochs, fast differ from the recipe"),
        (
            replace(smoke_run(DIGITS), ema_decay=None, label_smoothing=0.0),
            "none: ema_decay, sched.epochs, sched.warmup_epochs and 2 more differ from the recipe",
        ),
        (replace(DIGITS, recipe="my-own"), "none"),
    ],
)
def test_other_settings_are_named_in_its_place(config, expected):
    assert describe_reference(config, 10) == expected


def test_the_place_of_the_data_may_be_given_where_the_recipe_knows_none():
    rooted = replace(IMAGENET, data=replace(IMAGENET.data, root="/data/imagenet"))
    assert describe_reference(rooted, 1000) == "76.9 % top-1 on ImageNet (Table 3); not run here"
    assert describe_reference(rooted, 3) == "none: it is for 1000 classes, here are 3"
    held_out = replace(rooted, data=replace(rooted.data, holdout=0.1))
    assert describe_reference(held_out, 1000) == "none: data.holdout differs from the recipe"


def test_a_recipe_that_follows_its_images_expects_nothing():
    photos = get_recipe("photos")
    rooted = replace(photos, data=replace(photos.data, root="/photos"))
    assert describe_reference(rooted, 3) == "none: what to expect depends on the images"


def test_a_student_may_be_given_its_teachers_labels():
    student = get_recipe("semi-student")
    labelled = replace(student, pseudo=PseudoConfig(labels="labels", ratio=5.0))
    assert describe_reference(labelled, 10) == describe_recipe("semi-student")["Expected"].rstrip(".")
    assert describe_reference(replace(DIGITS, pseudo=labelled.pseudo), 10).startswith("none: pseudo.labels")
