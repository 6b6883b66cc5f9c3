"""A data set is a class with a line in `DATA_SETS`: trained, stored and read with nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.cli import run
from lambdanets.data.config import DATA_SETS
from lambdanets.recipes import get_recipe
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder
from support.bars import BarsConfig


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(DATA_SETS, "bars", BarsConfig)


@pytest.mark.usefixtures("no_figures")
def test_a_registered_data_set_is_trained_and_its_settings_are_stored(tmp_path: Path) -> None:
    words = ["--data.name", "bars", "--data.length", "4", "--sched.epochs", "1", "--sched.warmup-epochs", "0"]
    # Two steps of half of the images.
    assert run(["train", "digits", "--global-batch-size", "8", *words, "--out", str(tmp_path / "run")]) == 0
    folder = RunFolder(tmp_path / "run")
    assert folder.read_config(TrainConfig).data == BarsConfig(length=4)
    assert folder.read_metrics()[-1]["step"] == 2


def test_its_config_makes_the_trip_through_json() -> None:
    config = replace(get_recipe("digits"), data=BarsConfig(length=3))
    assert TrainConfig.from_json(config.to_json()) == config
