"""Settings: what is refused, and the trip through JSON."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.data.config import DigitsConfig, FolderConfig, HuggingFaceConfig, read_data_config, switched
from lambdanets.data.detection import CocoConfig
from lambdanets.errors import ArgumentError
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.training.changes import differences, flatten
from lambdanets.training.config import (
    CkptConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    SchedConfig,
    TrainConfig,
)

DIGITS = get_recipe("digits")


@pytest.mark.parametrize("name", RECIPES)
def test_json_gives_an_equal_config(name):
    config = get_recipe(name, RunConfig)
    assert TrainConfig.from_json(config.to_json()) == config


@given(
    learning_rate=st.floats(1e-12, 1e3),
    epochs=st.integers(1, 10**6),
    seed=st.integers(0, 2**63 - 1),
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
            "OptimConfig: learning_rate must be positive, got 0.0.",
        ),
        (
            lambda: OptimConfig(learning_rate=float("nan")),
            "learning_rate must be positive, got nan.",
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
            "max_rotation must be at most 180, got 181.0.",
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


def test_how_a_root_was_typed_makes_no_difference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = replace(DIGITS, data=FolderConfig(root="photos").located())
    assert (here.data.root, here.data.root_given) == (str(tmp_path / "photos"), "photos")
    assert here.data.located() == here.data
    assert "data.root_given" not in flatten(here)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir("inside")
    from_inside = replace(DIGITS, data=FolderConfig(root="../photos").located())
    assert differences(here, from_inside) == {}
    elsewhere = replace(DIGITS, data=FolderConfig(root="photos").located())
    assert differences(here, elsewhere) == {"data.root": (here.data.root, elsewhere.data.root)}


def test_the_root_of_an_earlier_version_is_the_one_that_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    earlier = json.loads(replace(DIGITS, data=FolderConfig(root="photos")).to_json())
    del earlier["data"]["root_given"]
    old = TrainConfig.from_dict(earlier)
    assert old.data.root == "photos" and old.data.root_given is None
    assert differences(old, replace(DIGITS, data=FolderConfig(root="photos").located())) == {}
    assert differences(old, replace(DIGITS, data=FolderConfig(root="images").located())) != {}


def test_a_name_on_the_hub_is_no_folder_to_be_located(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = HuggingFaceConfig(root="imagenet-1k")
    assert data.located() == data
    (tmp_path / "imagenet-1k").mkdir()
    assert data.located().root == str(tmp_path / "imagenet-1k")


def test_a_detector_s_root_is_located_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CocoConfig(root="coco").located().root == str(tmp_path / "coco")
    assert CocoConfig().located() == CocoConfig()
    stored = json.loads(get_recipe("scenes-demo", RunConfig).to_json())
    del stored["data"]["root_given"]
    assert RunConfig.from_dict(stored) == get_recipe("scenes-demo", RunConfig)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "validation"),
        ({"test": "valid"}, "validation"),
        ({"test": "validation[:10%]"}, "validation"),
        ({"test": "imagenet-val-*.tar"}, "validation"),
        ({"test": "test"}, "test"),
        ({"test": "evaluation"}, "test"),
        ({"test": "test", "holdout": 0.1}, "validation"),
    ],
)
def test_images_set_aside_are_a_validation(settings, name):
    assert FolderConfig(root="photos", **settings).test_name == name
    if "holdout" not in settings:
        assert CocoConfig(root="scenes", **settings).test_name == name
    assert DigitsConfig().test_name == "test"


def test_configs_recipes_and_run_folders_leave_torch_alone():
    code = "import sys, lambdanets.recipes, lambdanets.training.run_folder; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def own(keys, dim):
    return keys


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "place"),
    [
        (own, f"{own.__module__}:own"),
        (lambda keys, dim: keys, "module:name"),
        (json.JSONDecoder, "json.decoder:JSONDecoder"),
    ],
)
def test_a_callable_is_written_by_where_it_is_imported_from(given, place):
    """What config.json holds can be made again from it."""
    with pytest.raises(ArgumentError) as caught:
        ModelConfig(name="lambda_resnet_digits", overrides={"key_normalization": given})
    assert str(caught.value) == (
        "ModelConfig: overrides must be what config.json can hold, got a callable for key_normalization."
        f" Write where it is imported from: {place!r}."
    )
    model = ModelConfig(name="lambda_resnet_digits", overrides={"key_normalization": place})
    config = replace(DIGITS, model=model)
    assert TrainConfig.from_json(config.to_json()) == config
