"""A data set is a class with a line in `DATA_SETS`: trained, stored and read with nothing else."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from lambdanets.cli import run
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import DATA_SETS, DataConfig
from lambdanets.data.seeds import purpose
from lambdanets.data.task import Task, drawn_task
from lambdanets.recipes import get_recipe
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class BarsConfig(DataConfig):
    """Bars that lie or stand.

    Attributes:
        length: Pixels of a bar.
    """

    name: Literal["bars"] = "bars"
    length: int = 5

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> Task:
        """Draw bars."""
        return drawn_task(
            self.draw,
            self.draw,
            labels=("lying", "standing"),
            num_images=(64, 16),
            seed=seed,
            purposes=(purpose("bars order"), purpose("bars train"), purpose("bars test")),
        )

    def draw(self, seeds, labels):
        """A bar for each seed."""
        images = torch.zeros(len(seeds), 1, 8, 8)
        for image, seed, label in zip(images, seeds, labels.tolist(), strict=True):
            start = seed[-1] % (9 - self.length)
            image[0, start, start : start + self.length] = 1
            if label:
                image.copy_(image.mT.clone())
        return images


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(DATA_SETS, "bars", BarsConfig)


def test_a_registered_data_set_is_trained_and_its_settings_are_stored(tmp_path: Path) -> None:
    words = ["--data.name", "bars", "--data.length", "4", "--sched.epochs", "1", "--sched.warmup-epochs", "0"]
    # Two steps of half of the images.
    assert run(["train", "digits", "--global-batch-size", "32", *words, "--out", str(tmp_path / "run")]) == 0
    folder = RunFolder(tmp_path / "run")
    assert folder.read_config(TrainConfig).data == BarsConfig(length=4)
    assert folder.read_metrics()[-1]["step"] == 2


def test_its_config_makes_the_trip_through_json() -> None:
    config = replace(get_recipe("digits"), data=BarsConfig(length=3))
    assert TrainConfig.from_json(config.to_json()) == config
