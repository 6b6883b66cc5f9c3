"""What a run writes as it goes: metrics, best weights, checkpoints, diagnoses and lines."""

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import torch
from torch import nn

from lambdanets.errors import StorageError
from lambdanets.files import make_inner_folder, replace_file
from lambdanets.models.factory import count_parameters
from lambdanets.runs.display import TrainingProgress
from lambdanets.runs.fingerprint import fingerprint
from lambdanets.runs.tasks import Job
from lambdanets.runs.tensorboard import TensorBoardSink
from lambdanets.runs.unwritten import Unwritten
from lambdanets.streams import print_line
from lambdanets.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lambdanets.training.config import RunConfig
from lambdanets.training.content import check_content
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.loop import Callback
from lambdanets.training.objective import Trained
from lambdanets.training.run_folder import RunFolder, headline
from lambdanets.training.state import TrainState

# Seconds between two looks at whether the run folder is still in its place.
_CHECK_S: Final = 2.0


class Recorder(Callback):
    """Writes what the loop reports; other processes than the main one only take part in what all must do.

    Attributes:
        config: The settings of the run.
        folder: The run folder.
        job: What is trained.
        ctx: This process among the others.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        job: Job,
        ctx: DistributedContext,
        *,
        with_tensorboard: bool = False,
    ) -> None:
        self.config = config
        self.folder = folder
        self.ctx = ctx
        self.job = job
        self._progress: TrainingProgress | None = None
        self._with_tensorboard = with_tensorboard
        self._events: TensorBoardSink | None = None
        self._unwritten = Unwritten(folder)
        self._last_check = time.monotonic()

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

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the numbers of the run beside its settings; every process must ask for it first."""
        make = functools.partial(
            fingerprint, device=self.ctx.device.type, threads=torch.get_num_threads(), processes=self.ctx.size
        )
        return self.ctx.from_main(lambda: make(self.job.fingerprint()))

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
        """Show the step, and see every few seconds that the folder is still there."""
        if self.ctx.is_main and time.monotonic() - self._last_check > _CHECK_S:
            self.folder.check_held()
            self._last_check = time.monotonic()
        meter = state.meter
        if self._progress and meter.count:
            accuracy = self.job.objective.training_accuracy(meter)
            self._progress.show_step(state.step, num_images, meter.loss_sum / meter.count, accuracy)

    def on_epoch_end(self, state: TrainState, record: dict[str, Any]) -> None:
        """Write the line of metrics.jsonl and, if they are the best, the weights."""
        is_best = bool(state.best and state.best["step"] == state.step)
        best_model = state.trained_model(_best_weights(state)) if is_best else None
        if not self.ctx.is_main:
            return
        self.folder.check_held()
        self._unwritten.add_line(record)
        try:
            if best_model:
                self._save_best(state, best_model)
            else:
                self._unwritten.write()
        except StorageError as error:
            # It waits, and a checkpoint decides whether the run can go on.
            self._warn(str(error))
        if self._events:
            self._events.add(record)
        if self._progress:
            self._progress.print(
                f"epoch {record['epoch']:>3} of {self.config.sched.epochs} · loss"
                f" {record['train_loss']:.3f} · {self.job.test_name} {headline(record)}"
                f" · {self._progress.time_left()}"
            )

    def on_nonfinite(self, state: TrainState, record: dict[str, Any]) -> None:
        """Write what is known about a loss or gradient that is not finite."""
        policy = self.config.faults.nonfinite
        if not self.ctx.is_main:
            return
        path = self.folder.path / "diagnostics" / f"step-{record['step']:08d}.json"
        self.folder.check_held()
        try:
            make_inner_folder(path.parent)
            replace_file(path, (json.dumps(record, indent=2) + "\n").encode())
        except StorageError as error:
            self._warn(str(error))
        if policy != "stop":
            self._warn(f"{record['fault']} at step {record['step']}: {policy}, see {path}")

    def save(self, state: TrainState, *, must: bool = False) -> None:
        """Store the state; as many failures in a row as the config says are warnings, unless it must be.

        Raises:
            StorageError: It failed once too often.
        """
        tensors = state.tensors()
        record = {
            **state.record(self.config, self.ctx.size),
            "tensors": {name: len(group) for name, group in tensors.items()},
            "description": self._description(),
        }
        events = state.events

        def store() -> str | None:
            self.folder.check_held()
            # What still waits was told of when it came.
            with contextlib.suppress(StorageError):
                self._unwritten.write()
            try:
                save_checkpoint(
                    self.folder.checkpoints,
                    state.step,
                    {**tensors, **self._unwritten.tensors()},
                    {**record, **self._unwritten.record()},
                    keep=self.config.ckpt.keep,
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
        checkpoint = self.ctx.from_main(lambda: load_checkpoint(self.folder.checkpoints, check_content))
        if checkpoint is None:
            raise StorageError(f"run folder: {self.folder.checkpoints} must hold a checkpoint, got none.")
        state.restore(checkpoint, self.config, world_size=self.ctx.size)
        self.go_back(state, checkpoint)
        self.print(f"rolled back to step {state.step}")

    def go_back(self, state: TrainState, checkpoint: Checkpoint | None) -> None:
        """Bring metrics.jsonl and the best weights to where a state stands that a checkpoint gave.

        Where the best weights are lost, the best of the epochs to come takes their place: what the state, the
        files and the report say is the same.
        """

        def settle() -> tuple[dict[str, Any] | None, str]:
            self._unwritten.restore(checkpoint, state.step)
            best, warning = state.best, ""
            if best and not self._find_best(state):
                if not self._unwritten.is_ahead(state.step):
                    warning = (
                        f"{self.folder.best} no longer has the weights of epoch {best['epoch']}, the best so"
                        " far: from here on the best of the later ones are kept"
                    )
                best = None
            try:
                self._unwritten.write()
            except StorageError as error:
                warning = str(error)
            return best, warning

        state.best, warning = self.ctx.from_main(settle)
        if warning:
            self.print(f"warning: {warning}")

    def finish(self, state: TrainState) -> None:
        """Write all that still waits at the end of a run.

        Raises:
            StorageError: The disk does not take it.
        """

        def write() -> None:
            self.folder.check_held()
            try:
                if not self._find_best(state):
                    raise StorageError(
                        f"run folder: {self.folder.best} must have the best weights, got other ones or none."
                    )
                self._unwritten.write()
            except StorageError as error:
                raise StorageError(
                    f"{error} The training is done; the same command writes the rest."
                ) from error

        self.ctx.from_main(write)

    def _save_best(self, state: TrainState, model: nn.Module) -> None:
        """Write the weights of the best epoch, and whatever waits."""
        self._unwritten.set_best(model.state_dict(), self._describe_best(state))
        self._unwritten.write()

    def _find_best(self, state: TrainState) -> bool:
        """Whether the best weights are written, waiting, or in a checkpoint, from where they are taken."""
        assert state.best, "it has been evaluated"
        if self._unwritten.holds(state.best):
            return True
        tensors = self._unwritten.from_checkpoint(state.best)
        if tensors:
            self._unwritten.set_best(tensors, self._describe_best(state))
        return tensors is not None

    def _describe_best(self, state: TrainState) -> dict[str, Any]:
        """Describe the weights of the best epoch, as `load_run` reads it."""
        return {
            "format": 1,
            "recipe": self.config.recipe,
            "weights": "moving average" if _best_weights(state) == "ema" else "raw",
            "parameters": count_parameters(state.model),
            "metric": state.best,
            **self._description(),
        }

    def _description(self) -> dict[str, Any]:
        """Describe what the network takes and gives."""
        model = {**asdict(self.config.model), **self.job.model_description}
        started = self.folder.read_init()
        keys = ("source", "sha256", "model", "weights", "recipe", "epoch", "step")
        init = {"init": {key: started[key] for key in keys}} if started else {}
        return {"model": model, **self.job.description, **init, "fingerprint": self.fingerprint}

    def _warn(self, text: str) -> None:
        if self.ctx.is_main and self._progress:
            self._progress.print(f"warning: {text}")


def _best_weights(state: TrainState) -> Trained:
    """Say which weights were the best; states of earlier versions had the EMA alone."""
    weights: Trained = (state.best or {}).get("weights", "ema")
    return weights
