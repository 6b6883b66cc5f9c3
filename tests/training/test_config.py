"""Settings: what is refused, and the trip through JSON."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.data.config import DigitsConfig, FolderConfig, read_data_config, switched
from lambdanets.errors import ArgumentError
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.training.config import CkptConfig, OptimConfig, SchedConfig, TrainConfig, differences, flatten

DIGITS = get_recipe("digits")


@pytest.mark.parametrize("name", RECIPES)
def test_json_gives_an_equal_config(name):
    config = get_recipe(name)
    assert TrainConfig.from_json(config.to_json()) == config


@given(
    learning_rate=st.floats(1e-12, 1e3),
    epochs=st.integers(1, 10**6),
    seed=st.integers(0, 2**63),
    overrides=st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=5))
    ),
)
def test_json_keeps_every_value(learning_rate, epochs, seed, overrides):
    config = replace(
        DIGITS,
        seed=seed,
        model=replace(DIGITS.model, overrides=overrides),
        optim=replace(DIGITS.optim, learning_rate=learning_rate),
        sched=SchedConfig(epochs=epochs),
    )
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: OptimConfig(learning_rate=0.0),
            "OptimConfig: learning_rate must be positive and finite, got 0.0.",
        ),
        (
            lambda: OptimConfig(learning_rate=float("nan")),
            "learning_rate must be positive and finite, got nan.",
        ),
        (
            lambda: OptimConfig(learning_rate=0.1, layer_decay=1.1),
            "OptimConfig: layer_decay must be positive and at most 1, got 1.1.",
        ),
        (
            lambda: replace(DIGITS, init=""),
            "TrainConfig: init must name a run, a checkpoint or a file of weights, got .",
        ),
        (lambda: OptimConfig(learning_rate=0.1, momentum=1.0), "momentum must lie between 0 and 1.*got 1.0."),
        (
            lambda: OptimConfig(learning_rate=0.1, weight_decay=-1.0),
            "weight_decay must be at least 0.*got -1.0.",
        ),
        (lambda: SchedConfig(epochs=0), "SchedConfig: epochs must be at least 1, got 0."),
        (
            lambda: SchedConfig(epochs=2, warmup_epochs=2.0),
            "warmup_epochs must be at least 0 and below epochs, got 2.0.",
        ),
        (lambda: CkptConfig(every_epochs=0), "CkptConfig: every_epochs must be at least 1, got 0."),
        (lambda: CkptConfig(keep=0), "CkptConfig: keep must be at least 1, got 0."),
        (
            lambda: switched(DigitsConfig(), "digit"),
            "DataConfig: name must be one of 'digits', 'semi', 'relation', .*, got 'digit'. Closest: digits.",
        ),
        (
            lambda: read_data_config({"name": "relation", "max_rotation": 3.0}),
            "RelationConfig: fields must be name, got unknown max_rotation.",
        ),
        (
            lambda: switched(DigitsConfig(), "relation", max_rotation=3.0),
            "RelationConfig: settings must be name, got max_rotation.",
        ),
        (lambda: FolderConfig(image_size=4), "FolderConfig: image_size must be at least 8, got 4."),
        (lambda: DigitsConfig(max_shift=-1.0), "max_shift must be at least 0, got -1.0."),
        (
            lambda: DigitsConfig(max_rotation=181.0),
            "max_rotation must lie between 0 and 180.*got 181.0.",
        ),
        (
            lambda: DigitsConfig(max_scaling=1.0),
            "max_scaling must be at least 0 and below 1, got 1.0.",
        ),
        (lambda: replace(DIGITS, seed=-1), "TrainConfig: seed must be at least 0, got -1."),
        (lambda: replace(DIGITS, num_threads=0), "num_threads must be at least 1, got 0."),
        (lambda: replace(DIGITS, global_batch_size=1), "global_batch_size must be at least 2, got 1."),
        (
            lambda: replace(DIGITS, label_smoothing=1.0),
            "label_smoothing must be at least 0 and below 1, got 1.0.",
        ),
        (lambda: replace(DIGITS, ema_decay=1.0), "ema_decay must be at least 0 and below 1, got 1.0."),
    ],
)
def test_a_setting_out_of_range_is_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_unknown_and_missing_fields_are_named():
    values = json.loads(DIGITS.to_json())
    values["optim"]["learning_rat"] = values["optim"].pop("learning_rate")
    with pytest.raises(
        ArgumentError, match=r"OptimConfig: fields must be name, learning_rate, .*got unknown learning_rat"
    ):
        TrainConfig.from_dict(values)
    del values["optim"]["learning_rat"]
    with pytest.raises(ArgumentError, match=r"OptimConfig: fields must be .*, got no learning_rate\."):
        TrainConfig.from_dict(values)


def test_settings_are_read_by_their_earlier_names():
    values = json.loads(get_recipe("imagenet-mobilenetv2").to_json())
    for group, name, earlier in (
        ("optim", "beta2", "squares_decay"),
        ("optim", "clip_grad_norm", "max_gradient_norm"),
        ("faults", "max_unreadable_fraction", "max_unreadable_share"),
    ):
        values[group][earlier] = values[group].pop(name)
    assert TrainConfig.from_dict(values) == get_recipe("imagenet-mobilenetv2")


def test_differences_are_listed_by_dotted_name():
    other = replace(DIGITS, seed=3, optim=replace(DIGITS.optim, learning_rate=0.7))
    assert differences(DIGITS, other) == {
        "seed": (0, 3),
        "optim.learning_rate": (DIGITS.optim.learning_rate, 0.7),
    }
    assert differences(DIGITS, DIGITS) == {}
    assert flatten(DIGITS)["model.name"] == "lambda_resnet_digits"


def test_configs_recipes_and_run_folders_leave_torch_alone():
    code = "import sys, lambdanets.recipes, lambdanets.training.run_folder; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
