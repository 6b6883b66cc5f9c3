"""A config is changed in Python by name, checked, and shown as text."""

import dataclasses
import re
from pathlib import Path

import numpy
import pytest

from lambdanets.data.config import DigitsConfig, FolderConfig
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.recipes import get_recipe
from lambdanets.training.config import DetectConfig, OptimConfig, RunConfig, TrainConfig

DIGITS = get_recipe("digits")


def test_settings_of_groups_are_changed_in_one_call() -> None:
    config = DIGITS.replace(seed=3, sched={"epochs": 7}, exec={"device": "cpu"})
    assert (config.seed, config.sched.epochs, config.exec.device) == (3, 7, "cpu")
    # All else is as it was.
    assert config.replace(seed=0, sched=DIGITS.sched, exec=DIGITS.exec) == DIGITS
    assert DIGITS.seed == 0


def test_an_object_takes_the_place_of_a_group() -> None:
    optim = OptimConfig(name="adamw", learning_rate=1e-3)
    assert DIGITS.replace(optim=optim).optim is optim


def test_model_overrides_are_added_to_those_of_the_recipe() -> None:
    first = DIGITS.replace(model={"overrides": {"num_heads": 2}})
    second = first.replace(model={"overrides": {"query_depth": 8}})
    assert second.model.overrides == {"num_heads": 2, "query_depth": 8}


def test_another_name_of_the_data_set_changes_the_data_set() -> None:
    config = DIGITS.replace(data={"name": "folder", "root": "photos"})
    assert isinstance(config.data, FolderConfig)
    assert config.data.root == "photos"
    semi = DIGITS.replace(data={"name": "semi"}).data
    assert isinstance(DIGITS.data, DigitsConfig)
    assert semi.max_shift == DIGITS.data.max_shift  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "config", [DIGITS.replace(data={"name": "folder"}), get_recipe("scenes-demo", RunConfig)]
)
def test_another_root_is_typed_anew(config: RunConfig) -> None:
    before = config.replace(data={"root": "before"})
    before = dataclasses.replace(before, data=before.data.located())
    after = before.replace(data={"root": "after"}).data.located()
    assert (before.data.root_given, after.root_given) == ("before", "after")  # type: ignore[union-attr]


def test_what_stands_for_a_value_in_python_becomes_it() -> None:
    config = DIGITS.replace(
        seed=numpy.int64(4),
        label_smoothing=0,
        data={"name": "folder", "root": Path("photos")},
        sched={"shape": "step", "step_at": [0.5, numpy.float32(0.75)], "step_factor": 0.1},
    )
    assert (config.seed, type(config.seed)) == (4, int)
    assert type(config.label_smoothing) is float
    assert config.data.root == "photos"  # type: ignore[attr-defined]
    assert config.sched.step_at == (0.5, 0.75)
    assert RunConfig.from_json(config.to_json()) == config


def test_dataclasses_replace_works_too() -> None:
    assert dataclasses.replace(DIGITS, seed=5) == DIGITS.replace(seed=5)


MESSAGES = {
    "replace: sed must be a setting of TrainConfig, got an unknown one. Closest: seed,": {"sed": 1},
    'replace: epochs must be a setting of TrainConfig, got an unknown one. Write sched={"epochs": …}.': {
        "epochs": 3
    },
    'replace: learning_rat must be a setting of TrainConfig, got an unknown one. Closest: optim={"learning': {
        "learning_rat": 1
    },
    'got an unknown one. Write model={"name": …} or data={"name": …} or optim={"name": …}.': {"name": "x"},
    'replace: sched__epochs must be a setting of TrainConfig, got an unknown one. Write sched={"epochs"': {
        "sched__epochs": 3
    },
    "replace: sched.epoch must be a setting of SchedConfig, got an unknown one. Closest: epochs": {
        "sched": {"epoch": 3}
    },
    "replace: exec.device must be one of 'auto', 'cpu', 'cuda', got 'cuda0'. Closest: cuda.": {
        "exec": {"device": "cuda0"}
    },
    "SchedConfig: epochs must be at least 1, got 0.": {"sched": {"epochs": 0}},
}
TYPES = {
    "replace: seed must be int, got '3'.": {"seed": "3"},
    "replace: seed must be int, got True.": {"seed": True},
    "replace: seed must be int, got None.": {"seed": None},
    "replace: fast must be bool, got 1.": {"fast": 1},
    "replace: sched must be a dictionary or a SchedConfig, got 3.": {"sched": 3},
    "replace: optim.beta2 must be float or None, got 'x'.": {"optim": {"beta2": "x"}},
    "replace: exec.precision must be one of 'auto', 'float32', 'bfloat16', 'float16', got 32.": {
        "exec": {"precision": 32}
    },
    "replace: sched.step_at must be a list of float, got 0.5.": {"sched": {"step_at": 0.5}},
}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_wrong_setting_is_named_with_the_nearest(message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        DIGITS.replace(**MESSAGES[message])


@pytest.mark.parametrize("message", TYPES)
def test_a_value_of_another_type_is_refused(message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=re.escape(message)):
        DIGITS.replace(**TYPES[message])


def test_a_printed_config_shows_what_is_not_at_its_default() -> None:
    assert str(DIGITS.replace(seed=1)) == (
        "TrainConfig of the recipe digits; what is not shown is at its default\n"
        "         seed=1, num_threads=1, global_batch_size=64, ema_decay=0.98, label_smoothing=0.1\n"
        "model    name='lambda_resnet_digits'\n"
        "data     name='digits', max_shift=0.7, max_rotation=12.0, max_scaling=0.12\n"
        "optim    name='sgd', learning_rate=0.2, weight_decay=0.002\n"
        "sched    epochs=25, warmup_epochs=2.0\n"
        "ckpt     every_epochs=5"
    )


@pytest.mark.parametrize(("name", "kind"), [("digits", TrainConfig), ("scenes-demo", DetectConfig)])
def test_the_repr_of_a_config_can_be_evaluated(name: str, kind: type[RunConfig]) -> None:
    config = get_recipe(name, kind)
    names = {one.__name__: one for one in map(type, vars(config).values())}
    assert eval(repr(config), {**names, kind.__name__: kind}) == config
