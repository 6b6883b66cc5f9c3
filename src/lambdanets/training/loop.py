"""The training loop: train an epoch, evaluate the EMA and the raw weights, record, save."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.task import Batch, TestData, TrainingData
from lambdanets.errors import ArgumentError, DataError, NumericError, StoppedError
from lambdanets.training.config import RunConfig
from lambdanets.training.distributed import ALONE, DistributedContext, autocast_dtype
from lambdanets.training.loader import load_batches
from lambdanets.training.metrics import Meter
from lambdanets.training.objective import Evaluations, Objective
from lambdanets.training.optimizer import scheduled_learning_rate, set_learning_rate
from lambdanets.training.state import TrainState
from lambdanets.training.step import train_step
from lambdanets.waiting import stoppable

# The epoch and the images' indices of one step.
Step = tuple[int, Int[Tensor, " b"]]


class Callback:
    """Hooks of the loop; each does nothing unless a subclass defines it."""

    def on_step_end(self, state: TrainState, num_images: int) -> None:
        """Called after each step, with the size of its batch."""

    def on_epoch_end(self, state: TrainState, record: dict[str, Any]) -> None:
        """Called after each evaluation, before the state is saved; `record` is the line of metrics.jsonl."""

    def on_nonfinite(self, state: TrainState, record: dict[str, Any]) -> None:
        """Called when a loss or a gradient is not finite, with all that is known about it."""

    def save(self, state: TrainState, *, must: bool = False) -> None:
        """Store the state, so that a later process can continue from it; `must`: a failure is an error."""

    def restore(self, state: TrainState) -> None:
        """Load the state that was stored last."""
        raise NotImplementedError


@dataclass(kw_only=True, eq=False)
class Trainer:
    """A training run: what it trains, and the loop that does it.

    Every number depends on the config, the number of processes and the step alone, so a run that was stopped
    and continued ends bit for bit where an undisturbed one does.

    Attributes:
        objective: What it minimises, and how its network is judged.
        eval_every: Epochs from one evaluation to the next; the last epoch always has one.
        ctx: This process among those of the run.
        callback: Called after each step and epoch, and to save.
        stop_requested: Asked before each step; true means save and leave.
        clock: Seconds, for the time between checkpoints.
    """

    config: RunConfig
    data: TrainingData
    test: TestData
    objective: Objective
    eval_every: int = 1
    ctx: DistributedContext = ALONE
    callback: Callback = field(default_factory=Callback)
    stop_requested: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    # What the processes agreed on in the last step, and when this one saved last.
    _stop: bool = field(default=False, init=False, repr=False)
    _save_is_due: bool = field(default=False, init=False, repr=False)
    _last_save: float = field(default=0.0, init=False, repr=False)

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
        return self.config.steps_per_epoch(len(self.data))

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
        return scheduled_learning_rate(
            step,
            peak=self.config.peak_learning_rate,
            warmup_steps=self.warmup_steps,
            total_steps=self.total_steps,
            points=[fraction * self.total_steps for fraction in sched.step_at],
            interval=sched.step_epochs and sched.step_epochs * self.steps_per_epoch,
            factor=sched.step_factor,
        )

    def batches(self, epoch: int) -> tuple[Int[Tensor, " b"], ...]:
        """The indices of each step of an epoch: equal parts, so that no batch is a lone image."""
        return self.data.order(epoch).tensor_split(self.steps_per_epoch)

    def fit(self, state: TrainState) -> Evaluations:
        """Train a state in place, from its step to the end of the run; return the last evaluations.

        Raises:
            NumericError: The loss or the gradient is not finite; the weights are those of the last update.
            DataError: Too many files cannot be read.
            StoppedError: `stop_requested` was true; the state is saved.
        """
        with stoppable(self.stop_requested):
            return self._fit(state)

    def _fit(self, state: TrainState) -> Evaluations:
        if state.step == 0 and self.config.faults.nonfinite == "rollback":
            self.callback.save(state, must=True)
        self._rehearse(state)
        evaluations = None
        steps, batches = self._start_at(state.step)
        while state.step < self.total_steps:
            if self._train_epoch(state, steps, batches):
                epoch, is_last = state.step // self.steps_per_epoch, state.step == self.total_steps
                if is_last or epoch % self.eval_every == 0:
                    evaluations = self.evaluate(state)
                    self.callback.on_epoch_end(state, self._epoch_record(state, evaluations))
                if is_last or self._save_is_due or epoch % self.config.ckpt.every_epochs == 0:
                    self._save(state, must=is_last)
            else:
                # Rolled back: the state is an earlier one, and its batches are read anew.
                steps, batches = self._start_at(state.step)
        if evaluations is None:
            evaluations = self.evaluate(state)
            if state.best is None:
                self._keep_if_best(state, evaluations)
        return evaluations

    def _rehearse(self, state: TrainState) -> None:
        """Let the objective try the largest batch, unless the run is done."""
        execution, most = self.config.exec, math.ceil(len(self.data) / self.steps_per_epoch)
        if state.step < self.total_steps:
            state.model.train()
            self.objective.rehearse(
                state.model,
                math.ceil(math.ceil(most / self.ctx.size) / execution.accumulation),
                ctx=self.ctx,
                dtype=autocast_dtype(execution.precision, self.ctx.device),
            )

    def evaluate(self, state: TrainState) -> Evaluations:
        """Evaluate the EMA and, where the objective does so, the raw weights; the state stays as it is.

        Each process takes a shard of the test images.
        """
        objective, last = self.objective, (self.test, self.config.exec, self.ctx)
        if not objective.judges_raw:
            return Evaluations(ema=objective.evaluate(state.trained_model("ema"), *last))
        with _uncompiled() if self.config.exec.compile else contextlib.nullcontext():
            if state.full_model is None:
                models = state.trained_model("ema"), state.trained_model("raw")
                ema, raw = objective.evaluate_all(models, *last)
            else:
                # One model takes the full weights of both, one after the other.
                ema = objective.evaluate(state.trained_model("ema"), *last)
                raw = objective.evaluate(state.trained_model("raw"), *last)
        return Evaluations(ema=ema, raw=raw)

    def _start_at(self, first: int) -> tuple[Iterator[Step], Iterator[Batch]]:
        """The steps from one on, and their batches."""
        self._last_save = self.clock()
        self._agree(self.ctx.sum_values(self._own_flags()))
        first_epoch, offset = divmod(first, self.steps_per_epoch)
        epochs = range(first_epoch, self.config.sched.epochs)
        left = ((epoch, indices) for epoch in epochs for indices in self.batches(epoch))
        steps, ahead = itertools.tee(itertools.islice(left, offset, None))
        calls = ((epoch, self.ctx.shard(indices)) for epoch, indices in ahead)
        execution = self.config.exec
        batches = load_batches(self.data, calls, execution.num_workers, limit_s=execution.batch_limit_s)
        return steps, batches

    def _train_epoch(self, state: TrainState, steps: Iterator[Step], batches: Iterator[Batch]) -> bool:
        """Train to the end of an epoch; false after a rollback."""
        state.ddp_model.train()
        for epoch, indices in steps:
            if self._stop:
                self._leave(state)
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StoppedError:
                if self.ctx.size == 1:
                    self._leave(state)
                raise
            except DataError:
                # Alone: other processes would wait in their step while this one saves.
                if self.ctx.size == 1:
                    self._save(state)
                raise
            nonfinite = self._step(state, batch, len(indices))
            state.meter.seconds += time.perf_counter() - started
            if nonfinite and not self._recover(state, nonfinite, epoch, indices):
                return False
            self.callback.on_step_end(state, len(indices))
            if state.step % self.steps_per_epoch == 0:
                break
            if self._save_is_due:
                self._save(state)
        return True

    def _leave(self, state: TrainState) -> NoReturn:
        """Save, and leave as was asked for."""
        self.callback.save(state, must=True)
        raise StoppedError(
            f"stopped at step {state.step} of {self.total_steps}; the same command continues there."
        )

    def _step(self, state: TrainState, batch: Batch, num_images: int) -> str | None:
        """Make one step; what was not finite, so that the update was not made, or None."""
        if state.step in state.events.rolled_back_steps:
            # The step is skipped, and the processes still agree on whether to stop.
            self._agree(self.ctx.sum_values(self._own_flags()))
            state.step += 1
            return None
        faults = self.config.faults
        buffers = list(state.model.buffers()) if faults.nonfinite == "skip" else []
        kept = [buffer.clone() for buffer in buffers]
        set_learning_rate(state.optimizer, self.learning_rate(state.step))
        unreadable = len(batch.unreadable), len(batch.unreadable) < len(batch.images)
        nonfinite, sums = train_step(
            state,
            batch,
            num_images,
            config=self.config,
            ctx=self.ctx,
            objective=self.objective,
            flags=(*self._own_flags(), *map(float, unreadable)),
        )
        self._agree(sums)
        self._count_unreadable(state, batch.unreadable, *sums[2:])
        if nonfinite is None:
            state.step += 1
            state.events.skipped_in_a_row = 0
        else:
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
        return nonfinite

    def _own_flags(self) -> tuple[float, float]:
        """Whether this process was asked to stop, and whether it is time to save."""
        due = self.clock() - self._last_save > 60 * self.config.ckpt.every_minutes
        return float(self.stop_requested()), float(due and self.ctx.is_main)

    def _agree(self, sums: list[float]) -> None:
        """Take over the flags, summed over all processes."""
        self._stop, self._save_is_due = bool(sums[0]), bool(sums[1])

    def _count_unreadable(
        self, state: TrainState, own: tuple[str, ...], total: float, with_readable: float
    ) -> None:
        events, limits = state.events, self.config.faults
        if total == 0:
            events.unreadable_in_a_row = 0
            return
        # A dictionary keeps the order and drops what is known already.
        everywhere = itertools.chain(*self.ctx.all_gather(own))
        events.unreadable = list(dict.fromkeys([*events.unreadable, *everywhere]))
        events.unreadable_in_a_row = round(total) + (0 if with_readable else events.unreadable_in_a_row)
        too_many = len(events.unreadable) > limits.max_unreadable_fraction * len(self.data)
        if too_many or events.unreadable_in_a_row >= limits.max_unreadable_in_a_row:
            raise DataError(
                f"fit: training files must be readable but for {limits.max_unreadable_fraction:.1%} of them"
                f" and {limits.max_unreadable_in_a_row - 1} in a row, got {len(events.unreadable)} of"
                f" {len(self.data)} that are not, {events.unreadable_in_a_row} in a row. The last:"
                f" {events.unreadable[-1]}"
            )

    def _recover(self, state: TrainState, problem: str, epoch: int, indices: Int[Tensor, " b"]) -> bool:
        """Skip the step, roll back or raise, as the config says; false after a rollback."""
        faults, events, step = self.config.faults, state.events, state.step
        self.callback.on_nonfinite(
            state,
            {
                "step": step,
                "epoch": epoch + 1,
                "fault": problem,
                "indices": indices.tolist(),
                "learning_rate": self.learning_rate(step),
            },
        )
        if faults.nonfinite == "skip" and events.skipped_in_a_row < faults.max_nonfinite:
            events.skipped_steps.append(step)
            events.skipped_in_a_row += 1
            state.step += 1
            return True
        if faults.nonfinite == "rollback" and len(events.rolled_back_steps) < faults.max_nonfinite:
            rolled_back_steps = sorted({*events.rolled_back_steps, step})
            self.callback.restore(state)
            state.events.rolled_back_steps = rolled_back_steps
            return False
        raise NumericError(
            f"fit: {problem} at step {step}; the update was not made. Use a lower learning rate, a longer"
            " warm-up or --faults.nonfinite skip."
        )

    def _save(self, state: TrainState, *, must: bool = False) -> None:
        self.callback.save(state, must=must)
        self._last_save = self.clock()

    def _epoch_record(self, state: TrainState, evaluations: Evaluations) -> dict[str, Any]:
        meter, state.meter = state.meter, Meter()
        state.seconds += meter.seconds
        record = {
            "epoch": state.step // self.steps_per_epoch,
            "step": state.step,
            "learning_rate": self.learning_rate(state.step - 1),
            "train_loss": meter.loss_sum / max(meter.count, 1),
            **self.objective.training_record(meter),
            "train_total": meter.count,
            **evaluations.record(),
            "seconds": state.seconds,
            "images_per_s": meter.count / meter.seconds,
        }
        self._keep_if_best(state, evaluations)
        return record

    def _keep_if_best(self, state: TrainState, evaluations: Evaluations) -> None:
        chooses = self.objective.best_by[0]
        weights, better = evaluations.better(chooses)
        # A tie goes to the later weights: they have seen more.
        # There is nothing to choose by where a test has no objects.
        if state.best is None or (better.get(chooses) or 0) >= (state.best[chooses] or 0):
            state.best = {
                "epoch": state.step // self.steps_per_epoch,
                "step": state.step,
                "weights": weights,
                **{key: better.get(key) for key in self.objective.best_by},
            }


def _uncompiled() -> AbstractContextManager[Any]:
    """Call a compiled network as it is: the EMA is so too, and images of a test come in batches of their own.

    Else each of their sizes would be compiled, which takes minutes.
    """
    return torch.compiler.set_stance("force_eager")
