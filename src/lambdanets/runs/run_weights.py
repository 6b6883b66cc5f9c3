"""The weights that a run holds: of its best epoch, or of its last checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from lambdanets.errors import DataError, PathError
from lambdanets.runs.tasks import Task
from lambdanets.runs.trained import load_trained
from lambdanets.training.checkpoint import load_checkpoint
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import load_state

Which = Literal["best", "ema", "raw"]


@dataclass(frozen=True, kw_only=True)
class RunWeights:
    """Weights of a run, and how far they were trained.

    Attributes:
        model: Makes the network with these weights.
        labels: The classes it was trained on, where the file says so.
        file: Where they are, below the run folder.
        epoch: How many epochs they were trained; none within one.
        step: How many steps they were trained.
        warnings: One sentence for each damaged checkpoint that was passed over.
    """

    model: Callable[[Task, TrainConfig], nn.Module]
    labels: tuple[str, ...] | None
    file: str
    epoch: int | None
    step: int
    warnings: tuple[str, ...] = ()

    def require_classes(self, run: Path, task: Task) -> None:
        """Raise where the images have other classes than those of the training."""
        if self.labels is None or self.labels == task.labels:
            return
        differing = sorted({*self.labels} ^ {*task.labels})
        difference = f"without or beside {', '.join(differing[:3])}" if differing else "in another order"
        raise DataError(
            f"eval: the test images must have the {len(self.labels)} classes that {run} was trained on, got"
            f" {len(task.labels)}, {difference}."
        )


def find_weights(run: Path, which: Which) -> RunWeights:
    """Read weights of a run.

    Args:
        run: A run folder.
        which: Of the best epoch; or of the last checkpoint, the moving average or the network itself.

    Raises:
        PathError: There is no run, or it has not evaluated or stored anything yet.
        CheckpointError: The file is damaged.
    """
    return _of_best(run) if which == "best" else _of_checkpoint(run, which)


def _of_best(run: Path) -> RunWeights:
    trained = load_trained(run)
    metric = trained.description["metric"]
    return RunWeights(
        model=lambda task, config: trained.model,
        labels=trained.labels,
        file=RunFolder(run).best.name,
        epoch=metric["epoch"],
        step=metric["step"],
    )


def _of_checkpoint(run: Path, which: Which) -> RunWeights:
    folder = RunFolder.existing(run)
    checkpoint = load_checkpoint(folder.checkpoints)
    if checkpoint is None:
        raise PathError(f"eval: {run} must hold a checkpoint for --weights {which}, got none.")
    name = "ema" if which == "ema" else "model"
    file = checkpoint.path / f"{name}.safetensors"
    step: int = checkpoint.record["step"]

    def model(task: Task, config: TrainConfig) -> nn.Module:
        made = task.make_model(config.model)
        load_state(made, checkpoint.tensors[name], str(file))
        return made

    epochs = (record["epoch"] for record in folder.read_metrics() if record["step"] == step)
    return RunWeights(
        model=model,
        labels=None,
        file=str(file.relative_to(run)),
        epoch=next(epochs, None),
        step=step,
        warnings=checkpoint.skipped,
    )
