"""Everything that a run changes, and its way into a checkpoint and back."""

import copy
import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from lambdanets.errors import CheckpointError
from lambdanets.training.changes import differences
from lambdanets.training.checkpoint import Checkpoint
from lambdanets.training.config import RunConfig
from lambdanets.training.distributed import (
    DistributedContext,
    autocast_dtype,
    prepare_model,
    shard_model,
    wrap_model,
)
from lambdanets.training.metrics import Meter
from lambdanets.training.objective import Trained
from lambdanets.training.optimizer import (
    ExponentialMovingAverage,
    derived_ema_decay,
    distribute_like,
    full_tensor,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
)
from lambdanets.training.weights import check_state


@dataclass(kw_only=True)
class Events:
    """Errors so far that have not ended the run.

    Attributes:
        unreadable: One sentence for each training file that could not be read.
        unreadable_in_a_row: Unreadable files since the last readable one.
        skipped_steps: Steps whose loss or gradient was not finite, without an update.
        skipped_in_a_row: Those among them since the last update.
        rolled_back_steps: Steps whose loss or gradient was not finite: the run went back and skips them.
        failed_saves: Checkpoints that could not be stored.
        failed_saves_in_a_row: Those among them since the last one that could.
    """

    unreadable: list[str] = field(default_factory=list)
    unreadable_in_a_row: int = 0
    skipped_steps: list[int] = field(default_factory=list)
    skipped_in_a_row: int = 0
    rolled_back_steps: list[int] = field(default_factory=list)
    failed_saves: int = 0
    failed_saves_in_a_row: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Events":
        """Read what `dataclasses.asdict` gave; checkpoints of earlier versions say `passed_over`."""
        renamed = {"passed_over": "rolled_back_steps"}
        return cls(**{renamed.get(name, name): value for name, value in values.items()})


@dataclass(kw_only=True)
class TrainState:
    """Everything that changes during a run.

    Attributes:
        ddp_model: The model as training calls it: in `DistributedDataParallel`, or the model itself.
        ema: Its exponential moving average.
        full_model: Takes the full weights for evaluation where processes hold shards of them.
        scaler: Keeps gradients within the range of float16; none in other precisions.
        step: Steps made; with the seed it decides all randomness.
        seconds: Time spent training in complete epochs so far, over all sessions of the run.
        meter: Sums of the epoch under way.
        best: The best evaluation so far, of the EMA or of the raw weights as its `weights` says; without,
            as in checkpoints of earlier versions, it is the EMA's.
        events: What went wrong so far.
    """

    model: nn.Module
    ddp_model: nn.Module
    ema: ExponentialMovingAverage
    optimizer: Optimizer
    full_model: nn.Module | None = None
    scaler: GradScaler | None = None
    step: int = 0
    seconds: float = 0.0
    meter: Meter = field(default_factory=Meter)
    best: dict[str, Any] | None = None
    events: Events = field(default_factory=Events)

    def trained_model(self, weights: Trained) -> nn.Module:
        """Give the EMA model or the raw one with its full weights; every process of the run must call it.

        Where processes hold shards, there is one such model: the next call gives it other weights.
        """
        model = self.ema.module if weights == "ema" else self.model
        if self.full_model is None:
            return model
        self.full_model.load_state_dict(_full_state(model))
        return self.full_model

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by the name of the checkpoint's file; every process of the run must call it."""
        return {
            "model": _full_state(self.model),
            "ema": _full_state(self.ema.module),
            "optimizer": optimizer_state(self.optimizer, self.model),
        }

    def record(self, config: RunConfig, world_size: int = 1) -> dict[str, Any]:
        """All plain numbers, and the config and the number of processes they belong to."""
        return {
            "step": self.step,
            "ema_updates": self.ema.num_updates,
            "seconds": self.seconds,
            "meter": dataclasses.asdict(self.meter),
            "best": self.best,
            "events": dataclasses.asdict(self.events),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "world_size": world_size,
            "config": dataclasses.asdict(config),
        }

    def restore(
        self, checkpoint: Checkpoint, config: RunConfig, *, world_size: int = 1, allow: Collection[str] = ()
    ) -> list[str]:
        """Load a checkpoint of the same config and number of processes.

        The settings named in `allow`, `world_size` among them, may have changed. Returns these changes,
        old -> new.
        """
        record = checkpoint.record
        changes = _check_same_config(checkpoint, config, world_size, allow)
        for name, model in (("model", self.model), ("ema", self.ema.module)):
            tensors, own = checkpoint.tensors[name], model.state_dict()
            check_state(model, tensors, f"{checkpoint.path}/{name}.safetensors")
            model.load_state_dict({key: distribute_like(own[key], tensors[key]) for key in tensors})
        load_optimizer_state(self.optimizer, self.model, checkpoint.tensors["optimizer"])
        self.ema.num_updates = record["ema_updates"]
        if self.scaler and record["scaler"]:
            self.scaler.load_state_dict(record["scaler"])
        self.step = record["step"]
        self.seconds = record["seconds"]
        self.meter = Meter.from_dict(record["meter"])
        self.best = record["best"]
        self.events = Events.from_dict(record["events"])
        return changes


def ema_decay(config: RunConfig, num_steps: int) -> float:
    """The decay of the EMA of a run of so many steps: the config's, or the derived one where it has none."""
    return derived_ema_decay(num_steps) if config.ema_decay is None else config.ema_decay


def init_train_state(
    model: nn.Module,
    config: RunConfig,
    ctx: DistributedContext,
    make_groups: Callable[[nn.Module], list[dict[str, Any]]],
    *,
    num_steps: int,
) -> TrainState:
    """Make the state at the beginning of a run, from a model with its first weights, equal in all processes.

    The optimiser's parameter groups are made of the model on its device; the EMA's decay is derived from the
    number of steps where the config has none.
    """
    model = prepare_model(model, config.exec, ctx)
    ema = ExponentialMovingAverage(model, ema_decay(config, num_steps))
    full_model = None
    if config.exec.parallel == "fsdp" and ctx.size > 1:
        full_model = copy.deepcopy(ema.module)
        shard_model(model, ctx)
        shard_model(ema.module, ctx)
    needs_scaler = autocast_dtype(config.exec.precision, ctx.device) == torch.float16
    return TrainState(
        model=model,
        ema=ema,
        full_model=full_model,
        optimizer=make_optimizer(config.optim, make_groups(model)),
        ddp_model=wrap_model(model, config.exec, ctx),
        scaler=GradScaler(ctx.device.type) if needs_scaler else None,
    )


def _full_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers by name, gathered where processes hold shards of them."""
    return {name: full_tensor(tensor) for name, tensor in model.state_dict().items()}


def _check_same_config(
    checkpoint: Checkpoint, config: RunConfig, world_size: int, allow: Collection[str]
) -> list[str]:
    old = RunConfig.from_dict(checkpoint.record["config"])
    changes = differences(old, config)
    if checkpoint.record["world_size"] != world_size:
        changes["world_size"] = (checkpoint.record["world_size"], world_size)
    texts = {name: f"{name}: {before} -> {after}" for name, (before, after) in changes.items()}
    refused = [name for name in texts if name not in allow]
    if refused:
        listed = "\n  ".join(texts[name] for name in refused)
        raise CheckpointError(
            f"load_checkpoint: {checkpoint.path} was written by recipe {old.recipe!r} with other settings,"
            f" old -> new:\n  {listed}\nTo go on all the same: --resume-allow {' '.join(refused)}"
        )
    return list(texts.values())
