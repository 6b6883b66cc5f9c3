"""What a run writes as it goes: metrics, best weights, checkpoints, diagnoses and lines."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from lambdanets.data.task import Task
from lambdanets.errors import StorageError
from lambdanets.files import replace_file
from lambdanets.runs.display import TrainingProgress
from lambdanets.runs.tensorboard import TensorBoardSink
from lambdanets.terminal import print_line
from lambdanets.training.checkpoint import load_checkpoint, save_checkpoint
from lambdanets.training.config import RunConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loop import Callback
from lambdanets.training.metrics import Evaluation
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import TrainState
from lambdanets.training.weights import save_weights


class Recorder(Callback):
    """Writes what the loop reports; other processes than the main one only take part in what all must do.

    Attributes:
        config: The settings of the run.
        folder: The run folder.
        ctx: This process among the others.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        task: Task,
        ctx: DistributedContext,
        *,
        with_tensorboard: bool = False,
    ) -> None:
        self.config = config
        self.folder = folder
        self.ctx = ctx
        self._task = task
        self._progress: TrainingProgress | None = None
        self._with_tensorboard = with_tensorboard
        self._events: TensorBoardSink | None = None
        self._is_mixed = bool(config.augment.mixup or config.augment.cutmix)
        # Lines of metrics.jsonl that a full disk has not taken yet.
        self._waiting: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def shown_by(self, progress: TrainingProgress) -> Iterator[None]:
        """Show steps and epochs, and write TensorBoard's events if they are asked for."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(progress)
            self._progress = progress
            if self._with_tensorboard:
                sink = TensorBoardSink(self.folder.path / "tensorboard", self.folder.read_metrics())
                self._events = stack.enter_context(contextlib.closing(sink))
            yield

    def log(self, text: str) -> None:
        """Add lines to train.log."""
        if self.ctx.is_main:
            self.folder.append_log(text)

    def print(self, text: str) -> None:
        """Print lines and log them."""
        self.log(text)
        if self.ctx.is_main:
            print_line(text)

    def on_step_end(self, state: TrainState, num_images: int) -> None:
        """Show the step."""
        meter = state.meter
        if self._progress and meter.count:
            # The accuracy on mixed images means little.
            accuracy = None if self._is_mixed else meter.correct / meter.count
            self._progress.show_step(state.step, num_images, meter.loss_sum / meter.count, accuracy)

    def on_epoch_end(self, state: TrainState, record: dict[str, Any], evaluation: Evaluation) -> None:
        """Write the line of metrics.jsonl and, if they are the best, the EMA weights."""
        is_best = bool(state.best and state.best["step"] == state.step)
        best_model = state.ema_model() if is_best else None
        if not self.ctx.is_main:
            return
        self._waiting.append(record)
        try:
            while self._waiting:
                self.folder.append_metrics(self._waiting[0])
                del self._waiting[0]
            if best_model:
                _save_best(self.folder.best, state, best_model, self.config, self._task)
        except StorageError as error:
            # The line waits, and a checkpoint decides whether the run can go on.
            self._warn(str(error))
        if self._events:
            self._events.add(record)
        if self._progress:
            self._progress.print(
                f"epoch {record['epoch']:>3} of {self.config.sched.epochs} · loss"
                f" {record['train_loss']:.3f} · test {record['test_accuracy']:.2%} ({evaluation.correct} of"
                f" {evaluation.total}) · {self._progress.time_left()}"
            )

    def on_nonfinite(self, state: TrainState, record: dict[str, Any]) -> None:
        """Write what is known about a loss or gradient that is not finite."""
        policy = self.config.faults.nonfinite
        if not self.ctx.is_main:
            return
        path = self.folder.path / "diagnostics" / f"step-{record['step']:08d}.json"
        try:
            path.parent.mkdir(exist_ok=True)
            replace_file(path, (json.dumps(record, indent=2) + "\n").encode())
        except OSError as error:
            self._warn(str(error))
        if policy != "stop":
            self._warn(f"{record['fault']} at step {record['step']}: {policy}, see {path}")

    def save(self, state: TrainState, *, must: bool = False) -> None:
        """Store the state; as many failures in a row as the config says are warnings, unless it must be.

        Raises:
            StorageError: It failed once too often.
        """
        tensors, record = state.tensors(), state.record(self.config, self.ctx.size)
        events = state.events

        def store() -> str | None:
            try:
                save_checkpoint(
                    self.folder.checkpoints, state.step, tensors, record, keep=self.config.ckpt.keep
                )
            except StorageError as error:
                return str(error)
            return None

        failure = self.ctx.from_main(store)
        if failure is None:
            events.failed_saves_in_a_row = 0
            return
        events.failed_saves += 1
        events.failed_saves_in_a_row += 1
        if must or events.failed_saves_in_a_row > self.config.ckpt.tolerate_failures:
            raise StorageError(failure)
        self._warn(f"{failure} The run goes on without this checkpoint.")

    def restore(self, state: TrainState) -> None:
        """Load the last checkpoint."""
        checkpoint = self.ctx.from_main(lambda: load_checkpoint(self.folder.checkpoints))
        if checkpoint is None:
            raise StorageError(f"run folder: {self.folder.checkpoints} must hold a checkpoint, got none.")
        state.restore(checkpoint, self.config, world_size=self.ctx.size)
        self.ctx.from_main(lambda: self.folder.drop_metrics_after(state.step))
        self.print(f"rolled back to step {state.step}")

    def _warn(self, text: str) -> None:
        if self.ctx.is_main and self._progress:
            self._progress.print(f"warning: {text}")


def _save_best(path: Path, state: TrainState, ema: nn.Module, config: RunConfig, task: Task) -> None:
    """Write the EMA weights of the best epoch with their description, as `load_run` reads it.

    Args:
        path: `best.safetensors` of a run; `best.json` beside it repeats the description.
        state: The state of the training, with its best evaluation.
        ema: The EMA model.
        config: The settings of the run.
        task: The data set, which says what the network's inputs and outputs are.
    """
    description = {
        "format": 1,
        "recipe": config.recipe,
        "model": {
            **asdict(config.model),
            "num_classes": len(task.labels),
            "in_channels": task.in_channels,
        },
        "weights": "moving average",
        "parameters": count_parameters(state.model),
        "metric": state.best,
        "labels": list(task.labels),
        "preprocessing": task.preprocessing and task.preprocessing.to_dict(),
    }
    save_weights(path, ema.state_dict(), description)


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a network; shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
