"""Everything that changes during a run, and its trip through a checkpoint."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lambdanets.errors import CheckpointError
from lambdanets.training.checkpoint import Checkpoint
from lambdanets.training.config import TrainConfig, differences
from lambdanets.training.ema import ExponentialMovingAverage
from lambdanets.training.metrics import Meter
from lambdanets.training.optimizer import optimizer_tensors, restore_optimizer


@dataclass(kw_only=True)
class TrainState:
    """Everything that changes during a run.

    Attributes:
        model: The network that is trained.
        ema: Its moving average, the one that is evaluated and kept.
        optimizer: Updates the network.
        step: Updates made; with the seed it decides all randomness.
        seconds: Time spent training in whole epochs so far, over all processes that worked on the run.
        meter: Sums of the epoch under way.
        best: The best evaluation so far.
    """

    model: nn.Module
    ema: ExponentialMovingAverage
    optimizer: Optimizer
    step: int = 0
    seconds: float = 0.0
    meter: Meter = field(default_factory=Meter)
    best: dict[str, Any] | None = None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by the name of the checkpoint's file."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
        }

    def record(self, config: TrainConfig) -> dict[str, Any]:
        """All plain numbers, and the config they belong to."""
        return {
            "step": self.step,
            "ema_updates": self.ema.num_updates,
            "seconds": self.seconds,
            "meter": dataclasses.asdict(self.meter),
            "best": self.best,
            "config": dataclasses.asdict(config),
        }

    def restore(self, checkpoint: Checkpoint, config: TrainConfig) -> None:
        """Take over a checkpoint of the same config.

        Raises:
            CheckpointError: It belongs to another config or to another model.
        """
        record = checkpoint.record
        _require_same(checkpoint, TrainConfig.from_dict(record["config"]), config)
        _load(self.model, checkpoint, "model")
        _load(self.ema.module, checkpoint, "ema")
        restore_optimizer(self.optimizer, self.model, checkpoint.tensors["optimizer"])
        self.ema.num_updates = record["ema_updates"]
        self.step = record["step"]
        self.seconds = record["seconds"]
        self.meter = Meter(**record["meter"])
        self.best = record["best"]


def _require_same(checkpoint: Checkpoint, old: TrainConfig, new: TrainConfig) -> None:
    changes = [f"{name}: {before} -> {after}" for name, (before, after) in differences(old, new).items()]
    if changes:
        raise CheckpointError(
            f"load_checkpoint: {checkpoint.path} was written by recipe {old.recipe!r} with other settings,"
            " old -> new:\n  " + "\n  ".join(changes)
        )


def _load(model: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    load_state(model, checkpoint.tensors[name], f"{checkpoint.path}/{name}.safetensors")


def load_state(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load weights, every one of them.

    Raises:
        CheckpointError: Names or shapes are not those of the model.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    if wrong:
        listed = ", ".join(
            f"{name} {expected.get(name, 'nothing')} but has {found.get(name, 'nothing')}"
            for name in wrong[:3]
        )
        raise CheckpointError(
            f"load_state: {where} must hold the weights of this model, got {len(wrong)} that differ:"
            f" it needs {listed}."
        )
    model.load_state_dict(tensors)
