"""A trained network with all that is needed to use it: one file, read by the other jobs."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lambdanets.data.preprocessing import Preprocessing, preprocessing_from_dict
from lambdanets.errors import ArgumentError, PathError
from lambdanets.models import create_model
from lambdanets.models.create import Network
from lambdanets.runs.tasks import Task
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import TrainState, load_state
from lambdanets.training.weights import load_weights, save_weights


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network ready for use.

    Attributes:
        model: In evaluation mode.
        labels: The name of each class.
        preprocessing: From a file to what the network takes; None where no file can be.
        description: All that `best.json` says.
    """

    model: Network
    labels: tuple[str, ...]
    preprocessing: Preprocessing | None
    description: dict[str, Any]


def check_reads_files(who: str, run: Path, trained: Trained) -> Preprocessing:
    """How a network takes images from outside, or an error where its data set has none."""
    if trained.preprocessing is None:
        raise ArgumentError(
            f"{who}: run must be one that files can be given to, got {run}, whose images are drawn."
        )
    return trained.preprocessing


def save_trained(path: Path, state: TrainState, average: nn.Module, config: TrainConfig, task: Task) -> None:
    """Write the averaged weights with their description, and the description once more as JSON."""
    description = {
        "format": 1,
        "recipe": config.recipe,
        "model": {
            **dataclasses.asdict(config.model),
            "num_classes": len(task.labels),
            "in_channels": task.in_channels,
        },
        "weights": "moving average",
        "parameters": count_parameters(state.model),
        "metric": state.best,
        "labels": list(task.labels),
        "preprocessing": task.preprocessing and task.preprocessing.to_dict(),
    }
    save_weights(path, average.state_dict(), description)


def load_trained(run: Path) -> Trained:
    """Load the best network of a run.

    Args:
        run: A run folder.

    Raises:
        PathError: There is no run, or it has not evaluated anything yet.
        CheckpointError: The file is damaged or belongs to another model.
    """
    path = RunFolder.existing(run).best
    if not path.is_file():
        raise PathError(
            f"load_trained: {run} must hold best.safetensors, got none. It comes with the first epoch."
        )
    tensors, description = load_weights(path)
    wanted, preprocessing = description["model"], description["preprocessing"]
    model = create_model(
        wanted["name"],
        num_classes=wanted["num_classes"],
        in_channels=wanted["in_channels"],
        **wanted["overrides"],
    )
    load_state(model, tensors, str(path))
    return Trained(
        model=model.eval(),
        labels=tuple(description["labels"]),
        preprocessing=preprocessing and preprocessing_from_dict(preprocessing),
        description=description,
    )


def count_parameters(model: nn.Module) -> int:
    """Count the numbers that training changes; shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
