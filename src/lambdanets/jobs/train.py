"""Training as one job: data, model, optimiser, loop and run folder meet here."""

import os
import traceback
from collections.abc import Mapping
from typing import Any

import torch

from lambdanets.jobs.display import Display, say
from lambdanets.jobs.report import write_report
from lambdanets.jobs.tasks import Task, load_task
from lambdanets.jobs.trained import count_parameters, save_trained
from lambdanets.models import parameter_groups
from lambdanets.training.checkpoint import load_checkpoint, remove_leftovers, save_checkpoint
from lambdanets.training.config import TrainConfig
from lambdanets.training.ema import ExponentialMovingAverage
from lambdanets.training.loop import Plan, fit
from lambdanets.training.metrics import Evaluation
from lambdanets.training.optimizer import make_optimizer
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.signals import StopRequest
from lambdanets.training.state import TrainState


def train(config: TrainConfig, folder: RunFolder, *, command: str) -> None:
    """Train a config in a run folder, from where it stands to its end, and write the report.

    Args:
        config: What to run.
        folder: Held by this process for this config.
        command: The command line that repeats the run, for the report.

    Raises:
        StoppedError: A signal asked to stop; the state is saved.
        NumericError: The loss or the gradient is not finite.
        CheckpointError: There are checkpoints, but none can be used.
        StorageError: The folder cannot be written.
    """
    torch.set_num_threads(config.num_threads)
    task = load_task(config)
    stop = StopRequest()
    plan = Plan(
        config=config,
        data=task.train,
        test=task.test,
        num_classes=len(task.labels),
        stop_requested=stop,
    )
    with stop.listening():
        state = new_state(config, task)
        resume(state, config, folder)
        tell(folder, banner(state, plan, task))
        try:
            with Display(folder.append_log, total_steps=plan.total_steps, first_step=state.step) as display:
                fit(state, plan, _Recorder(config, folder, task, display))
        except Exception as error:
            expected = hasattr(error, "exit_code")
            folder.append_log(f"{type(error).__name__}: {error}" if expected else traceback.format_exc())
            raise
        tell(folder, write_report(folder, config, state, task, command))


def new_state(config: TrainConfig, task: Task) -> TrainState:
    """Make the model, its average and its optimiser, as the seed decides."""
    torch.manual_seed(config.seed)
    model = task.make_model(config.model)
    groups = parameter_groups(model, config.optim.weight_decay)
    return TrainState(
        model=model,
        ema=ExponentialMovingAverage(model, config.ema_decay),
        optimizer=make_optimizer(config.optim, groups),
    )


def resume(state: TrainState, config: TrainConfig, folder: RunFolder) -> None:
    """Take over the newest whole checkpoint, if there is one, and say so."""
    remove_leftovers(folder.checkpoints)
    checkpoint = load_checkpoint(folder.checkpoints)
    session = folder.count_session()
    if checkpoint is not None:
        state.restore(checkpoint, config)
        for skipped in checkpoint.skipped:
            tell(folder, f"warning: {skipped}")
        tell(folder, f"continuing from step {state.step} ({checkpoint.path}), session {session}")
    elif session > 1:
        tell(folder, f"starting again from step 0: there is no checkpoint yet, session {session}")
    folder.drop_metrics_after(state.step)


def banner(state: TrainState, plan: Plan, task: Task) -> str:
    """Say what is about to run, in numbers."""
    config = plan.config
    half_life = state.ema.half_life_steps() / plan.steps_per_epoch
    rows: Mapping[str, str] = {
        "model": f"{config.model.name}, {count_parameters(state.model):,} parameters",
        "data": f"{config.data.name}, {len(task.train):,} to train with, {len(task.test):,} to test with",
        "steps": f"{plan.total_steps:,} = {config.sched.epochs} epochs × {plan.steps_per_epoch} steps"
        f" of at most {config.global_batch_size} pictures",
        "learning rate": f"{config.optim.learning_rate:g} after {plan.warmup_steps} steps of warm-up,"
        " then cosine to 0",
        "average": f"decay {config.ema_decay:g}, half-life {half_life:.1f} epochs",
        "machine": f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}",
    }
    return "\n".join(f"{name:<14}{value}" for name, value in rows.items())


def tell(folder: RunFolder, text: str) -> None:
    """Print lines and log them."""
    folder.append_log(text)
    say(text)


class _Recorder:
    """Writes what the loop reports: metrics, best weights, checkpoints and lines."""

    def __init__(self, config: TrainConfig, folder: RunFolder, task: Task, display: Display) -> None:
        self._config = config
        self._folder = folder
        self._task = task
        self._display = display

    def after_step(self, state: TrainState, num_images: int) -> None:
        self._display.step(state.step, num_images, state.meter.loss_sum / state.meter.count)

    def after_epoch(self, state: TrainState, record: dict[str, Any], evaluation: Evaluation) -> None:
        self._folder.append_metrics(record)
        if state.best and state.best["step"] == state.step:
            save_trained(self._folder.best, state, self._config, self._task)
        self._display.line(
            f"epoch {record['epoch']:>3} of {self._config.sched.epochs} · loss {record['train_loss']:.3f}"
            f" · test {record['test_accuracy']:.2%} ({evaluation.correct} of {evaluation.total})"
            f" · {self._display.pace(state.step)}"
        )

    def save(self, state: TrainState) -> None:
        save_checkpoint(
            self._folder.checkpoints,
            state.step,
            state.tensors(),
            state.record(self._config),
            keep=self._config.ckpt.keep,
        )
