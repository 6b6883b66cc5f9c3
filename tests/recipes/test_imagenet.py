"""The ImageNet recipes: what they say is the paper's, is the paper's."""

import re

import pytest
import torch

from lambdanets import create_model
from lambdanets.models import on_meta
from lambdanets.nn import StochasticDepth
from lambdanets.published import RESNET_RS, TABLES
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe, recipes_of
from lambdanets.recipes.imagenet import NUM_IMAGES
from lambdanets.training.changes import differences
from lambdanets.training.config import TrainConfig

FAMILY = tuple(f"imagenet-lambda-resnet{depth}-{size}" for depth, size in (
    (50, 128), (50, 160), (101, 160), (101, 192), (152, 192), (152, 224), (152, 256), (152, 288), (270, 256),
    (350, 256), (350, 288), (350, 320), (420, 320),
))  # fmt: skip


def test_every_row_of_table_20_has_a_recipe():
    assert [f"imagenet-{row.model.replace('_', '-')}-{row.image_size}" for row in TABLES[20]] == [*FAMILY]
    assert set(FAMILY) < set(RECIPES)


# Magnitude, dropout, stochastic depth: some rows of Table 20, written out.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet-lambda-resnet50-128", (10, 0.2, 0)),
        ("imagenet-lambda-resnet101-160", (10, 0.3, 0)),
        ("imagenet-lambda-resnet101-192", (15, 0.2, 0)),
        ("imagenet-lambda-resnet152-256", (15, 0.3, 0.1)),
        ("imagenet-lambda-resnet420-320", (15, 0.3, 0.2)),
    ],
)
def test_a_recipe_has_the_numbers_of_its_row(name, expected):
    config = get_recipe(name)
    overrides = config.model.overrides
    found = config.augment.randaugment_magnitude, overrides["dropout"], overrides["stochastic_depth"]
    assert found == expected
    assert config.augment.randaugment_layers == 2
    assert config.data.image_size == overrides["image_size"] == int(name.rpartition("-")[2])


def test_the_family_is_one_recipe_at_several_sizes():
    config = get_recipe(FAMILY[0])
    assert (config.sched.epochs, config.sched.warmup_epochs, config.sched.shape) == (350, 5, "cosine")
    assert config.peak_learning_rate == pytest.approx(1.6) == 0.1 * 4096 / 256
    assert (config.optim.name, config.optim.momentum, config.optim.weight_decay) == ("sgd", 0.9, 4e-5)
    assert (config.label_smoothing, config.ema_decay, config.augment.min_crop_area) == (0.1, 0.9999, 0.08)
    assert (config.exec.precision, config.exec.channels_last) == ("bfloat16", True)
    for name in FAMILY[1:]:
        assert differences(config, get_recipe(name)).keys() <= {
            *("recipe", "model.name", "model.overrides", "data.image_size", "augment.randaugment_magnitude"),
        }


def test_a_row_of_the_family_has_its_note():
    assert describe_recipe("imagenet-lambda-resnet152-256") == {
        "Summary": "LambdaResNet-152 at 256 pixels, 350 epochs.",
        "Paper": "§E.2; Tables 18 and 20.",
        "Expected": "83.8 % top-1 on ImageNet (Table 18; Table 13 prints 83.4 %); not run here.",
        "Cost": "60 h on 8 TPUv3 cores, by Table 18's time of a step; ours is not known.",
        "Derives": "`imagenet-lambda-resnet50-128`.",
        "Departs": "as `imagenet-lambda-resnet50-128`.",
        "Command": "`lambdanets train imagenet-lambda-resnet152-256 --data.root IMAGENET`.",
    }


def test_the_90_epochs():
    config = get_recipe("imagenet-lambda-resnet50-90ep")
    assert (config.sched.epochs, config.optim.weight_decay, config.global_batch_size) == (90, 1e-4, 4096)
    assert config.peak_learning_rate == pytest.approx(1.6)
    assert config.augment.randaugment_layers == 0
    plain = get_recipe("imagenet-resnet50-90ep")
    assert differences(plain, config).keys() == {"recipe", "model.name"}


def test_mobilenet_warms_up_to_a_tenth_and_falls_by_a_hundredth_every_third_epoch():
    config = get_recipe("imagenet-lambda-mobilenetv2")
    assert (config.optim.name, config.optim.momentum, config.peak_learning_rate) == ("rmsprop", 0.9, 0.1)
    assert (config.optim.weight_decay, config.model.overrides["dropout"]) == (1e-5, 0.2)
    sched = config.sched
    assert (sched.shape, sched.step_epochs, sched.step_factor, sched.epochs) == ("step", 3, 0.99, 350)


def test_twins_differ_in_the_network_alone():
    ours = get_recipe("imagenet-lambda-resnet152-256")
    for name in ("imagenet-resnet-rs152-256", "imagenet-resnet-rs152-wo-se-256"):
        assert differences(ours, get_recipe(name)).keys() == {"recipe", "model.name"}


def test_stochastic_depth_grows_by_fifths_from_stage_to_stage():
    config = get_recipe("imagenet-lambda-resnet350-288")
    with on_meta():
        network = create_model(config.model.name, **config.model.overrides)
    for stage, rate in (("c2", 0.08), ("c3", 0.12), ("c4", 0.16), ("c5", 0.2)):
        parts = [part for part in getattr(network, stage).modules() if isinstance(part, StochasticDepth)]
        assert [part.rate for part in parts] == pytest.approx([rate] * len(getattr(network, stage)))


def published(name):
    """Top-1 of the table that a recipe names."""
    config = get_recipe(name)
    number = int(re.search(r"Table (\d+)", describe_recipe(name)["Expected"])[1])
    rows = [
        row
        for row in TABLES[number]
        if row.model == config.model.name and not row.overrides and row.image_size == config.data.image_size
    ]
    return {row.values["top1"] for row in rows if "top1" in row.values}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in recipes_of(TrainConfig)
        if name.startswith("imagenet") and get_recipe(name).data.name == "folder" and name not in FAMILY[1:]
    ],
)
def test_what_is_expected_is_what_the_table_prints(name):
    assert published(name) == {float(describe_recipe(name)["Expected"].split()[0])}


@pytest.mark.parametrize("name", [FAMILY[0], "imagenet-resnet-rs152-256"])
def test_the_cost_is_the_published_time_of_a_step_times_the_steps(name):
    config = get_recipe(name)
    (row,) = (
        row
        for row in (*TABLES[18], *RESNET_RS)
        if (row.model, row.image_size) == (config.model.name, config.data.image_size)
    )
    hours = 350 * NUM_IMAGES / 1024 * row.values["step_s"] / 3600
    assert int(describe_recipe(name)["Cost"].split()[0]) == round(hours)


@pytest.mark.parametrize("name", ["imagenet-90ep-small", "imagenet-350ep-small", "imagenet-mobilenet-small"])
def test_small_recipes_keep_what_the_large_ones_switch_on(name):
    small = get_recipe(name)
    large = get_recipe(describe_recipe(name)["Derives"].strip("`."))
    for setting in ("optim.name", "optim.momentum", "sched.shape", "augment.randaugment_layers"):
        assert setting not in differences(large, small)
    assert small.exec.channels_last and small.exec.num_workers and small.label_smoothing == 0.1
    assert small.data.name == "digit-images"
    with on_meta():
        network = create_model(small.model.name, num_classes=10, **small.model.overrides)
        assert network(torch.ones(2, 3, 32, 32)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in network.parameters()) < 100_000
