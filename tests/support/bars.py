"""A data set of a test's own: sixteen bars that lie or stand, and a recipe that trains on them in no time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import lambdanets
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.task import Task, drawn_task

# Called with each batch that is drawn for training, where a test sets it.
ON_BATCH: list[Callable[[], None]] = []


@dataclass(frozen=True, kw_only=True)
class BarsConfig(lambdanets.DataConfig):
    """Bars that lie or stand.

    Attributes:
        length: Pixels of a bar.
    """

    name: Literal["bars"] = "bars"
    length: int = 5

    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> Task:
        """Draw bars."""
        return drawn_task(
            self._draw_for_training,
            self._draw,
            labels=("lying", "standing"),
            num_images=(16, 4),
            seed=seed,
            purposes=(901, 902, 903),
        )

    def _draw_for_training(self, seeds: Sequence[tuple[int, ...]], labels: Tensor) -> Tensor:
        for call in ON_BATCH:
            call()
        return self._draw(seeds, labels)

    def _draw(self, seeds: Sequence[tuple[int, ...]], labels: Tensor) -> Tensor:
        images = torch.zeros(len(seeds), 1, 8, 8)
        for image, label in zip(images, labels.tolist(), strict=True):
            rows, columns = (1, self.length) if label else (self.length, 1)
            image[0, :rows, :columns] = 1
        return images


def bars_config(epochs: int = 2) -> lambdanets.TrainConfig:
    """A training of two steps an epoch, for the registered data set."""
    return lambdanets.get_recipe("digits").replace(
        recipe="bars", data=BarsConfig(), sched={"epochs": epochs, "warmup_epochs": 0}, global_batch_size=8
    )
