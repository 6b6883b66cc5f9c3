"""The training loop: fit = train an epoch, evaluate the average, record, save."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from lambdanets.data.task import Batch, TestData, TrainingData
from lambdanets.errors import ArgumentError, DataError, StoppedError
from lambdanets.training.config import TrainConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loader import test_batches, training_batches
from lambdanets.training.metrics import Evaluation, Meter, evaluate
from lambdanets.training.schedule import warmup_cosine, warmup_step
from lambdanets.training.state import TrainState
from lambdanets.training.step import Mix, Outcome, Stepper, raise_fault


@runtime_checkable
class Callback(Protocol):
    """What happens beside the arithmetic."""

    def on_step_end(self, state: TrainState, num_images: int) -> None:
        """Called after each update, with the size of its batch."""
        ...

    def on_epoch_end(self, state: TrainState, record: dict[str, Any], evaluation: Evaluation) -> None:
        """Called after each evaluation, before the state is saved; `record` is the line of metrics.jsonl."""
        ...

    def on_nonfinite(self, state: TrainState, fault: dict[str, Any]) -> None:
        """Called when a loss or a gradient is not finite, with all that is known of it."""
        ...

    def save(self, state: TrainState, *, must: bool = False) -> None:
        """Store the state, so that a later process can go on from it; unless it must, a failure is borne."""
        ...

    def restore(self, state: TrainState) -> None:
        """Put back what was stored last."""
        ...


def _unprepared(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What to run: the config with the data it works on, and the numbers that follow from both.

    Attributes:
        config: The settings.
        data: The training images.
        test: The test images.
        num_classes: Classes of the labels.
        prepare: From images as data give them to what the network takes, on its device.
        mix: Mixes the images of a batch; none without mixup and cutmix.
        ctx: This process among those of the run.
        stop_requested: Asked before each step; true means save and leave.
        clock: Seconds, for the time between checkpoints.
    """

    config: TrainConfig
    data: TrainingData
    test: TestData
    num_classes: int
    prepare: Callable[[Tensor], Tensor] = _unprepared
    mix: Mix | None = None
    ctx: DistributedContext = field(default_factory=DistributedContext)
    stop_requested: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        least = 2 * self.ctx.size * self.config.exec.accumulation
        if len(self.data) < 2:
            raise ArgumentError(f"Trainer: data must hold at least 2 images, got {len(self.data)}.")
        if len(self.data) // self.steps_per_epoch < least:
            raise ArgumentError(
                f"Trainer: global_batch_size must give each of {self.ctx.size} processes and each of"
                f" {self.config.exec.accumulation} parts at least 2 images, got"
                f" {self.config.global_batch_size} of {len(self.data)} images."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch; the last image is never left out."""
        return math.ceil(len(self.data) / self.config.global_batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.sched.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up."""
        return round(self.config.sched.warmup_epochs * self.steps_per_epoch)

    def learning_rate(self, step: int) -> float:
        """The learning rate of one step."""
        sched = self.config.sched
        curve: dict[str, Any] = {
            "peak": self.config.peak_learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }
        if sched.step_epochs is None or sched.step_factor is None:
            return warmup_cosine(step, **curve)
        interval = sched.step_epochs * self.steps_per_epoch
        return warmup_step(step, **curve, interval=interval, factor=sched.step_factor)

    def batches(self, epoch: int) -> tuple[Int[Tensor, " b"], ...]:
        """The indices of each step of an epoch: equal parts, so that no batch is a lone image."""
        return self.data.order(epoch).tensor_split(self.steps_per_epoch)

    def stepper(self) -> Stepper:
        """What makes the updates."""
        return Stepper(config=self.config, ctx=self.ctx, prepare=self.prepare, mix=self.mix)


def fit(state: TrainState, trainer: Trainer, callback: Callback) -> Evaluation:
    """Train from where the state stands to the end of the trainer.

    Every number depends on the config, the number of processes and the step alone, so a run that was stopped
    and continued ends bit for bit where an undisturbed one does.

    Args:
        state: Changed in place.
        trainer: What to run.
        callback: Told of each step and epoch, and asked to save.

    Returns:
        The evaluation of the average after the last epoch.

    Raises:
        NumericError: The loss or the gradient is not finite; the weights are those of the last good update.
        DataError: Too many files cannot be read.
        StoppedError: The trainer asked to stop; the state is saved.
    """
    if state.step == 0 and trainer.config.faults.nonfinite == "rollback":
        callback.save(state, must=True)
    evaluation = None
    while state.step < trainer.total_steps:
        # After a rollback the state is an earlier one, and the batches are asked for anew.
        evaluation = _Session(state, trainer, callback).run()
    return evaluation or evaluate_ema(state, trainer)


def evaluate_ema(state: TrainState, trainer: Trainer) -> Evaluation:
    """Evaluate the averaged network, a share of the test images in each process."""
    ctx = trainer.ctx
    evaluation = evaluate(
        state.ema_model(),
        test_batches(trainer.test, ctx=ctx, num_workers=trainer.config.exec.num_workers),
        trainer.num_classes,
        prepare=trainer.prepare,
        precision=trainer.stepper().precision(),
        ctx=ctx,
    )
    return evaluation.require_whole(len(trainer.test))


# Flags that processes add up in each step: whether one was asked to stop, whether it is time to save.
_STOP: Final = 0
_SAVE: Final = 1


class _Session:
    """The loop from one start to the end of the run, or to a rollback."""

    def __init__(self, state: TrainState, trainer: Trainer, callback: Callback) -> None:
        self._state = state
        self._trainer = trainer
        self._callback = callback
        self._stepper = trainer.stepper()
        self._saved = trainer.clock()
        self._first = state.step
        self._flags = tuple(trainer.ctx.sum_values(self._own_flags()))

    def run(self) -> Evaluation | None:
        """Train to the end of the run, and give the evaluation of its last epoch, or to a rollback: none."""
        evaluation = None
        state, trainer = self._state, self._trainer
        calls = ((epoch, trainer.ctx.shard(indices)) for epoch, _, indices in self._remaining())
        batches = training_batches(trainer.data, calls, trainer.config.exec.num_workers)
        state.ddp_model.train()
        for epoch, number, indices in self._remaining():
            self._stop_if_asked()
            started = time.perf_counter()
            outcome = self._step(self._next(batches), len(indices))
            state.meter.seconds += time.perf_counter() - started
            if outcome.fault and not self._bear(outcome.fault, epoch, indices):
                return None
            self._callback.on_step_end(state, len(indices))
            if number == trainer.steps_per_epoch - 1:
                evaluation = self._close_epoch()
            elif self._flags[_SAVE]:
                self._save()
        return evaluation

    def _next(self, batches: Iterator[Batch]) -> Batch:
        try:
            return next(batches)
        except DataError:
            # Alone: other processes would wait in their step while this one saves.
            if self._trainer.ctx.size == 1:
                self._save()
            raise

    def _remaining(self) -> Iterator[tuple[int, int, Int[Tensor, " b"]]]:
        """Epoch, number within it and indices of each step from where the state stands."""
        trainer, first = self._trainer, self._first
        for epoch in range(first // trainer.steps_per_epoch, trainer.config.sched.epochs):
            for number, indices in enumerate(trainer.batches(epoch)):
                if epoch * trainer.steps_per_epoch + number >= first:
                    yield epoch, number, indices

    def _own_flags(self) -> tuple[float, float]:
        due = self._trainer.clock() - self._saved > 60 * self._trainer.config.ckpt.every_minutes
        return float(self._trainer.stop_requested()), float(due and self._trainer.ctx.is_main)

    def _stop_if_asked(self) -> None:
        if self._flags[_STOP]:
            self._callback.save(self._state, must=True)
            raise StoppedError(
                f"stopped at step {self._state.step} of {self._trainer.total_steps}; the same command"
                " continues there."
            )

    def _step(self, batch: Batch, num_images: int) -> Outcome:
        state, trainer = self._state, self._trainer
        unread = len(batch.unreadable), len(batch.unreadable) < len(batch.images)
        if state.step in state.events.rolled_back_steps:
            # The processes still agree on whether to stop.
            self._flags = tuple(trainer.ctx.sum_values(self._own_flags()))
            state.step += 1
            return Outcome(fault=None, flags=())
        kept = _buffers(state) if trainer.config.faults.nonfinite == "skip" else []
        rate = trainer.learning_rate(state.step)
        flags = (*self._own_flags(), *map(float, unread))
        outcome = self._stepper.step(state, batch, num_images, rate, flags)
        self._flags = outcome.flags[:2]
        self._count_unreadable(batch.unreadable, *outcome.flags[2:])
        if outcome.fault is None:
            state.step += 1
            state.events.skipped_in_a_row = 0
        for buffer, value in kept if outcome.fault else []:
            buffer.copy_(value)
        return outcome

    def _count_unreadable(self, own: tuple[str, ...], total: float, with_readable: float) -> None:
        events, limits = self._state.events, self._trainer.config.faults
        if total == 0:
            events.unreadable_in_a_row = 0
            return
        known = set(events.unreadable)
        for sentence in (sentence for part in self._trainer.ctx.all_gather(own) for sentence in part):
            if sentence not in known:
                known.add(sentence)
                events.unreadable.append(sentence)
        events.unreadable_in_a_row = round(total) + (0 if with_readable else events.unreadable_in_a_row)
        too_many = len(events.unreadable) > limits.max_unreadable_fraction * len(self._trainer.data)
        if too_many or events.unreadable_in_a_row >= limits.max_unreadable_in_a_row:
            raise DataError(
                f"fit: training files must be readable but for {limits.max_unreadable_fraction:.1%} of them"
                f" and {limits.max_unreadable_in_a_row - 1} in a row, got {len(events.unreadable)} of"
                f" {len(self._trainer.data)} that are not, {events.unreadable_in_a_row} in a row. The last:"
                f" {events.unreadable[-1]}"
            )

    def _bear(self, fault: str, epoch: int, indices: Int[Tensor, " b"]) -> bool:
        """Act on a fault as the config says; false after a rollback."""
        state, faults = self._state, self._trainer.config.faults
        step, events = state.step, state.events
        known = {"step": step, "epoch": epoch + 1, "fault": fault, "indices": indices.tolist()}
        self._callback.on_nonfinite(state, {**known, "learning_rate": self._trainer.learning_rate(step)})
        if faults.nonfinite == "skip" and events.skipped_in_a_row < faults.max_nonfinite:
            events.skipped_steps.append(step)
            events.skipped_in_a_row += 1
            state.step += 1
            return True
        if faults.nonfinite == "rollback" and len(events.rolled_back_steps) < faults.max_nonfinite:
            rolled_back_steps = sorted({*events.rolled_back_steps, step})
            self._callback.restore(state)
            state.events.rolled_back_steps = rolled_back_steps
            return False
        raise_fault(fault, step)
        return True

    def _close_epoch(self) -> Evaluation:
        state, trainer = self._state, self._trainer
        evaluation = evaluate_ema(state, trainer)
        record = _epoch_record(state, trainer, evaluation)
        self._callback.on_epoch_end(state, record, evaluation)
        is_last = state.step == trainer.total_steps
        is_due = record["epoch"] % trainer.config.ckpt.every_epochs == 0 or self._flags[_SAVE]
        if is_due or is_last:
            self._save(must=is_last)
        state.ddp_model.train()
        return evaluation

    def _save(self, *, must: bool = False) -> None:
        self._callback.save(self._state, must=must)
        self._saved = self._trainer.clock()


def _buffers(state: TrainState) -> list[tuple[Tensor, Tensor]]:
    return [(buffer, buffer.clone()) for buffer in state.model.buffers()]


def _epoch_record(state: TrainState, trainer: Trainer, evaluation: Evaluation) -> dict[str, Any]:
    meter, state.meter = state.meter, Meter()
    state.seconds += meter.seconds
    count = max(meter.count, 1)
    record = {
        "epoch": state.step // trainer.steps_per_epoch,
        "step": state.step,
        "learning_rate": trainer.learning_rate(state.step - 1),
        "train_loss": meter.loss_sum / count,
        "train_accuracy": meter.correct / count,
        "train_total": meter.count,
        "test_loss": evaluation.loss,
        "test_accuracy": evaluation.accuracy,
        "test_correct": evaluation.correct,
        "test_total": evaluation.total,
        "test_top5_correct": evaluation.top5_correct,
        "seconds": state.seconds,
        "images_per_s": meter.count / meter.seconds,
    }
    # A tie goes to the later weights: they have seen more.
    if state.best is None or evaluation.correct >= state.best["test_correct"]:
        state.best = {
            key: record[key] for key in ("epoch", "step", "test_accuracy", "test_correct", "test_total")
        }
    return record
