"""The training loop: fit = train an epoch, evaluate the average, record, save."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from lambdanets.batches import Batch, TestData, TrainingData
from lambdanets.errors import ArgumentError, NumericError, StoppedError
from lambdanets.training.config import TrainConfig
from lambdanets.training.feeding import test_batches
from lambdanets.training.metrics import Evaluation, Meter, evaluate
from lambdanets.training.optimizer import gradient_norm, set_learning_rate
from lambdanets.training.schedule import warmup_cosine
from lambdanets.training.state import TrainState


@runtime_checkable
class Watcher(Protocol):
    """What happens beside the arithmetic."""

    def after_step(self, state: TrainState, num_images: int) -> None:
        """Called after each update, with the size of its batch."""
        ...

    def after_epoch(self, state: TrainState, record: dict[str, Any], evaluation: Evaluation) -> None:
        """Called after each evaluation, before the state is saved; `record` is the line of metrics.jsonl."""
        ...

    def save(self, state: TrainState) -> None:
        """Store the state, so that a later process can go on from it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run: the config with the data it works on, and the numbers that follow from both.

    Attributes:
        config: The settings.
        data: The training pictures.
        test: The test pictures.
        num_classes: Classes of the labels.
        stop_requested: Asked before each step; true means save and leave.
    """

    config: TrainConfig
    data: TrainingData
    test: TestData
    num_classes: int
    stop_requested: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        if len(self.data) < 2:
            raise ArgumentError(f"Plan: data must hold at least 2 pictures, got {len(self.data)}.")

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch; the last picture is never left out."""
        return math.ceil(len(self.data) / self.config.global_batch_size)

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.config.sched.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Updates of the warm-up."""
        return round(self.config.sched.warmup_epochs * self.steps_per_epoch)

    def learning_rate(self, step: int) -> float:
        """The learning rate of one step."""
        return warmup_cosine(
            step,
            peak=self.config.optim.learning_rate,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
        )

    def batches(self, epoch: int) -> tuple[Int[Tensor, " b"], ...]:
        """The indices of each step of an epoch: equal parts, so that no batch is a lone picture."""
        return self.data.order(epoch).tensor_split(self.steps_per_epoch)


def fit(state: TrainState, plan: Plan, watcher: Watcher) -> None:
    """Train from where the state stands to the end of the plan.

    Every number depends on the config and the step alone, so a run that was stopped and continued ends bit
    for bit where an undisturbed one does.

    Args:
        state: Changed in place.
        plan: What to run.
        watcher: Told of each step and epoch, and asked to save.

    Raises:
        NumericError: The loss or the gradient is not finite; the weights are those of the last good update.
        StoppedError: The plan asked to stop; the state is saved.
    """
    every = plan.config.ckpt.every_epochs
    while state.step < plan.total_steps:
        train_epoch(state, plan, watcher)
        evaluation = evaluate(state.ema.module, test_batches(plan.test), plan.num_classes)
        record = _close_epoch(state, plan, evaluation)
        watcher.after_epoch(state, record, evaluation)
        if record["epoch"] % every == 0 or state.step == plan.total_steps:
            watcher.save(state)


def train_epoch(state: TrainState, plan: Plan, watcher: Watcher) -> None:
    """Train from where the state stands to the end of its epoch."""
    epoch, done = divmod(state.step, plan.steps_per_epoch)
    state.model.train()
    for indices in plan.batches(epoch)[done:]:
        if plan.stop_requested():
            watcher.save(state)
            raise StoppedError(
                f"stopped at step {state.step} of {plan.total_steps}; the same command continues there."
            )
        started = time.perf_counter()
        train_step(state, plan.data.batch(epoch, indices), plan.learning_rate(state.step), plan.config)
        state.meter.seconds += time.perf_counter() - started
        watcher.after_step(state, len(indices))


def train_step(state: TrainState, batch: Batch, learning_rate: float, config: TrainConfig) -> None:
    """Make one update of the weights and of their average."""
    images, labels, _ = batch
    # Dropout and stochastic depth draw from here: a resumed run draws the same.
    torch.manual_seed(int(np.random.SeedSequence((config.seed, state.step)).generate_state(1)[0]))
    logits = state.model(images)
    loss = cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    _require_finite("loss", loss, state.step)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    _require_finite("gradient norm", gradient_norm(state.model), state.step)
    set_learning_rate(state.optimizer, learning_rate)
    state.optimizer.step()
    state.ema.update(state.model)
    state.meter.update(loss.detach(), logits.detach(), labels)
    state.step += 1


def _require_finite(what: str, value: Tensor, step: int) -> None:
    if not torch.isfinite(value):
        raise NumericError(
            f"fit: {what} must be finite, got {value.item()} at step {step}; the update was not made."
            " Use a lower learning rate or a longer warm-up."
        )


def _close_epoch(state: TrainState, plan: Plan, evaluation: Evaluation) -> dict[str, Any]:
    meter, state.meter = state.meter, Meter()
    state.seconds += meter.seconds
    record = {
        "epoch": state.step // plan.steps_per_epoch,
        "step": state.step,
        "learning_rate": plan.learning_rate(state.step - 1),
        "train_loss": meter.loss_sum / meter.count,
        "train_accuracy": meter.correct / meter.count,
        "train_total": meter.count,
        "test_loss": evaluation.loss,
        "test_accuracy": evaluation.accuracy,
        "test_correct": evaluation.correct,
        "test_total": evaluation.total,
        "seconds": state.seconds,
        "images_per_s": meter.count / meter.seconds,
    }
    # A tie goes to the later weights: they have seen more.
    if state.best is None or evaluation.correct >= state.best["test_correct"]:
        state.best = {
            key: record[key] for key in ("epoch", "step", "test_accuracy", "test_correct", "test_total")
        }
    return record
