"""From a config to its data set and its network."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from lambdanets.data.config import DataConfig, switched
from lambdanets.data.pseudo import MixedTraining, PseudoLabels
from lambdanets.data.task import Task
from lambdanets.errors import ArgumentError
from lambdanets.models import create_model
from lambdanets.training.config import ModelConfig, TrainConfig


def make_model(config: ModelConfig, task: Task) -> nn.Module:
    """The network of a config for the images and labels of a data set."""
    return create_model(
        config.name, num_classes=len(task.labels), in_channels=task.in_channels, **config.overrides
    )


def load_task(config: TrainConfig) -> Task:
    """Load the data set of a config, and beside it the images that a teacher labelled, if it names any."""
    task = _load(config.data, config)
    if not config.pseudo.labels:
        return task
    pseudo = PseudoLabels.open(Path(config.pseudo.labels))
    labelled = pseudo.data
    if labelled.augmented != config.data.augmented:
        raise ArgumentError(
            f"load_task: pseudo.labels must be of images that can be shown as those of {config.data.name},"
            f" got labels of {labelled.name}."
        )
    known = task.labels if pseudo.labels is None else pseudo.labels
    if known != task.labels or pseudo.num_classes != len(task.labels):
        theirs = f"{pseudo.num_classes} classes" if pseudo.labels is None else ", ".join(pseudo.labels)
        raise ArgumentError(
            f"load_task: pseudo.labels must be of the classes {', '.join(task.labels)}, got {theirs}."
        )
    seed = pseudo.settings["seed"]
    if labelled.seeded and seed != config.seed:
        raise ArgumentError(
            f"load_task: pseudo.labels must be of seed {config.seed}, got those of seed {seed}: it decides"
            " which images are unlabelled."
        )
    unlabelled = _load(switched(config.data, **labelled.selection), config).unlabelled
    assert unlabelled is not None, "what was labelled can be labelled"
    mixed = MixedTraining(
        labelled=task.train,
        unlabelled=unlabelled.shown,
        pseudo=pseudo,
        ratio=config.pseudo.ratio,
        seed=config.seed,
    )
    return replace(task, train=mixed)


def _load(data: DataConfig, config: TrainConfig) -> Task:
    return data.load(
        seed=config.seed, augment=config.augment, max_unreadable=config.faults.max_unreadable_in_a_row
    )
