"""Training as one job: where data, model, optimiser, loop and run folder meet."""

import functools
import math
import os
import traceback
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from lambdanets.data.pseudo import MixedTraining
from lambdanets.errors import ArgumentError, PathError, StorageError
from lambdanets.models.factory import count_parameters, parameter_groups
from lambdanets.runs.display import TrainingProgress
from lambdanets.runs.ema import describe_ema, warn_of_ema_behind, warn_of_short_run
from lambdanets.runs.finetune import (
    freeze_stages,
    frozen_warnings,
    init_rows,
    not_taken_lines,
    read_init,
    remove_init,
    take_init,
    trained_rows,
    write_init,
)
from lambdanets.runs.fingerprint import check_same_data, resume_changes, stored_fingerprint
from lambdanets.runs.recorder import Recorder
from lambdanets.runs.report import warn_of_report
from lambdanets.runs.tasks import Job, load_task, make_job
from lambdanets.streams import print_line
from lambdanets.terminal import count, fill, pairs
from lambdanets.training.checkpoint import Checkpoint, load_checkpoint, remove_leftovers
from lambdanets.training.config import RunConfig, TrainConfig
from lambdanets.training.content import check_content
from lambdanets.training.distributed import ALONE, DistributedContext, autocast_dtype, init_distributed
from lambdanets.training.loader import load_batches
from lambdanets.training.loop import Trainer
from lambdanets.training.machine import SHARED_MEMORY, shared_memory_warning, supplies
from lambdanets.training.objective import Evaluations
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.state import TrainState, init_train_state
from lambdanets.training.torchrun import StopRequest
from lambdanets.variables import read_world
from lambdanets.waiting import stoppable

# What may differ where a run is only evaluated.
_ELSEWHERE: Final = ("world_size", "exec.device", "exec.compile")


def train(
    config: RunConfig,
    folder: RunFolder,
    *,
    command: str,
    allow: Collection[str] = (),
    tensorboard: bool = False,
    started: float | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Train a config in a run folder, from where it stands to its end, and write the report.

    Under torchrun each process calls this; the main one writes and prints.

    Args:
        config: The settings.
        folder: The run folder, held by the main process for this config.
        command: The command line that repeats the run, for the report.
        allow: Dotted names of settings that may differ from those of the checkpoint.
        tensorboard: Write event files for TensorBoard too.
        started: When the command began, by `time.monotonic`, for the time to the first step.
        stop: Knows afterwards which signal asked to stop.

    Raises:
        DependencyError: TensorBoard is asked for and not installed, or there are too few GPUs.
        StoppedError: A signal asked to stop; the state is saved.
        NumericError: The loss or the gradient is not finite.
        DataError: Too many files cannot be read.
        CheckpointError: There are checkpoints, but none can be used.
        StorageError: The folder cannot be written.
        LostProcessError: Another process has ended.
    """
    stop = stop or StopRequest()
    with init_distributed(config.exec) as ctx, stop.listening(), stoppable(stop):
        torch.set_num_threads(config.num_threads)
        finished = ctx.from_main(lambda: folder.finished(config))
        if finished:
            if ctx.is_main:
                print_line(finished)
            return
        task = load_task(config)
        job = make_job(config, task)
        recorder = Recorder(config, folder, job, ctx, with_tensorboard=tensorboard)
        trainer = make_trainer(config, job, ctx, callback=recorder, stop_requested=stop)
        checkpoint, session = _last_checkpoint(recorder)
        # A run that goes on has the weights of its own checkpoint: those it started with may be gone.
        load_init = functools.partial(_load_init, recorder) if checkpoint is None else None
        state = first_state(config, job, ctx, load_init)
        _resume(state, recorder, checkpoint, session, allow)
        recorder.print(_banner(state, trainer, recorder))
        try:
            evaluations = _fit(state, trainer, recorder, started)
            recorder.finish(state)
        except Exception as error:
            expected = hasattr(error, "exit_code")
            recorder.log(f"{type(error).__name__}: {error}" if expected else traceback.format_exc())
            raise
        if warning := warn_of_ema_behind(evaluations, state.ema.decay, trainer.total_steps):
            recorder.print(f"warning: {warning}")
        model = state.trained_model("ema")
        if ctx.is_main:
            try:
                recorder.print(job.write_report(folder, state, model, command, evaluations))
                folder.mark_finished()
            except StorageError:
                # The same command writes it.
                raise
            # Any: all that was trained is written.
            except Exception as error:
                recorder.log(traceback.format_exc())
                warn_of_report(folder, folder.report.name, error)


def remake_report(path: Path) -> str:
    """Evaluate the last checkpoint of a finished run again, and write its report and its figures.

    Args:
        path: The run folder, with checkpoints; its images are where they were.

    Returns:
        The closing lines of a training.

    Raises:
        PathError: There is no run, or no checkpoint.
        ArgumentError: It is not finished.
        CheckpointError: Its checkpoints are damaged.
        DataError: The images cannot be read.
        StorageError: The report cannot be written.
    """
    folder = RunFolder.existing(path)
    config = folder.read_config(RunConfig)
    config.data.check_ready()
    # This machine is perhaps another one.
    here = replace(config, exec=replace(config.exec, device="auto", compile=False))
    with folder.locked(config), init_distributed(here.exec) as ctx:
        checkpoint = load_checkpoint(folder.checkpoints, check_content)
        if checkpoint is None:
            raise PathError(f"report: {folder.checkpoints} must hold a checkpoint, got none.")
        job = make_job(here, load_task(here))
        check_same_data(_fingerprint_of(checkpoint), job.fingerprint(), "report", checkpoint.path)
        trainer = make_trainer(here, job, ctx)
        state = first_state(here, job, ctx)
        state.restore(checkpoint, here, world_size=ctx.size, allow=_ELSEWHERE)
        if state.step < trainer.total_steps:
            raise ArgumentError(
                f"report: run must be finished, got step {state.step} of {trainer.total_steps} in {path}."
                " The command that trains it continues there."
            )
        command = folder.last_command() or f"lambdanets {config.command} {config.recipe}"
        lines = job.write_report(folder, state, state.trained_model("ema"), command, trainer.evaluate(state))
        folder.mark_finished()
        return lines


def _fit(state: TrainState, trainer: Trainer, recorder: Recorder, started: float | None) -> Evaluations:
    if not trainer.ctx.is_main:
        return trainer.fit(state)
    progress = TrainingProgress(
        recorder.log,
        total_steps=trainer.total_steps,
        first_step=state.step,
        steps_per_epoch=trainer.steps_per_epoch,
        device=trainer.ctx.device.type,
        started=started,
    )
    with recorder.shown_by(progress):
        return trainer.fit(state)


def make_trainer(config: RunConfig, job: Job, ctx: DistributedContext, **options: Any) -> Trainer:
    """Make the trainer of a job; the options are those of `Trainer`."""
    return Trainer(
        config=config,
        data=job.train,
        test=job.test,
        objective=job.objective,
        eval_every=job.eval_every,
        ctx=ctx,
        **options,
    )


def first_state(
    config: RunConfig,
    job: Job,
    ctx: DistributedContext = ALONE,
    load_init: Callable[[nn.Module], None] | None = None,
) -> TrainState:
    """Make the model, its EMA and its optimiser, as the seed decides.

    Args:
        config: The settings.
        job: What is trained.
        ctx: This process.
        load_init: Puts other weights into the new model, equal ones in all processes.
    """
    torch.manual_seed(config.seed)
    model = job.make_model()
    if load_init is not None:
        load_init(model)
    freeze_stages(model, config)
    groups = functools.partial(
        parameter_groups, weight_decay=config.optim.weight_decay, layer_decay=config.optim.layer_decay
    )
    num_steps = config.sched.epochs * config.steps_per_epoch(len(job.train))
    return init_train_state(model, config, ctx, groups, num_steps=num_steps)


def _load_init(recorder: Recorder, model: nn.Module) -> None:
    """Load the weights that a run starts with, if it names any, and write down what was taken."""
    config, folder, ctx = recorder.config, recorder.folder, recorder.ctx
    name = config.init if isinstance(config, TrainConfig) else None
    if name is None:
        # An earlier command, which failed before its first result, may have left one.
        ctx.from_main(lambda: remove_init(folder))
        return
    assert isinstance(config, TrainConfig)
    init = ctx.from_main(lambda: read_init(name))
    record = take_init(model, init, config, recorder.job.description["labels"])
    ctx.from_main(lambda: write_init(folder, record))


def _last_checkpoint(recorder: Recorder) -> tuple[Checkpoint | None, int]:
    """Load the newest whole checkpoint, if there is one, and count this session."""
    folder = recorder.folder

    def load() -> tuple[Checkpoint | None, int]:
        remove_leftovers(folder.checkpoints)
        return load_checkpoint(folder.checkpoints, check_content), folder.count_session()

    return recorder.ctx.from_main(load)


def _resume(
    state: TrainState,
    recorder: Recorder,
    checkpoint: Checkpoint | None,
    session: int,
    allow: Collection[str],
) -> None:
    """Continue from a checkpoint, if there is one."""
    ctx = recorder.ctx
    # Every process asks for it here, before the main one writes it.
    made = recorder.fingerprint
    if checkpoint is not None:
        changes = resume_changes(_fingerprint_of(checkpoint), made, checkpoint.path, allow)
        changes += state.restore(checkpoint, recorder.config, world_size=ctx.size, allow=allow)
        for skipped in checkpoint.skipped:
            recorder.print(f"warning: {skipped}")
        recorder.print(f"continuing from step {state.step} ({checkpoint.path}), session {session}")
        for change in changes:
            recorder.print(f"warning: from step {state.step} on {change}")
    elif session > 1:
        recorder.print(f"starting again from step 0: there is no checkpoint yet, session {session}")
    ctx.from_main(lambda: recorder.folder.settle(recorder.config))
    recorder.go_back(state, checkpoint)


def _fingerprint_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    return stored_fingerprint(checkpoint.record.get("description") or {}, checkpoint.path)


def _banner(state: TrainState, trainer: Trainer, recorder: Recorder) -> str:
    """Describe what is about to run, in numbers."""
    config, ctx, job = trainer.config, trainer.ctx, recorder.job
    record = recorder.folder.read_init()
    started = init_rows(record, job.description.get("preprocessing")) if record else {}
    precision = autocast_dtype(config.exec.precision, ctx.device)
    base = config.optim.base_batch_size
    scaled = f" ({config.optim.learning_rate:g} × {config.global_batch_size} / {base})" if base else ""
    name = torch.cuda.get_device_name(ctx.device) if ctx.device.type == "cuda" else "CPU"
    devices = f"{count(ctx.size, 'process')}, {name} each" if ctx.size > 1 else name
    sched, threads = config.sched, count(torch.get_num_threads(), "thread")
    rows = {
        "model": f"{config.model.name}, {count_parameters(state.model):,} parameters",
        **job.describe_model(state.model),
        **started,
        **trained_rows(state.model, config),
        "data": f"{job.data}, {len(trainer.data):,} to train with, {len(trainer.test):,} to"
        f" {'test' if job.test_name == 'test' else 'validate'} with",
        "steps": f"{trainer.total_steps:,} = {count(sched.epochs, 'epoch')} ×"
        f" {count(trainer.steps_per_epoch, 'step')} of at most {count(config.global_batch_size, 'image')}",
        "learning rate": f"{config.peak_learning_rate:g}{scaled} after"
        f" {count(trainer.warmup_steps, 'step')} of warm-up, then {sched.describe()}",
        "EMA": describe_ema(config, trainer.steps_per_epoch),
        "machine": f"{devices}, {threads} of {count(os.cpu_count() or 1, 'core')},"
        f" {'float32' if precision is None else str(precision).removeprefix('torch.')},"
        f" torch {torch.__version__}",
    }
    short = warn_of_short_run(config, trainer.steps_per_epoch)
    made = record.get("warnings", []) if record else []
    warnings = [*([short] if short else []), *frozen_warnings(config, record), *made]
    if isinstance(trainer.data, MixedTraining) and not trainer.data.pseudo.has_sums:
        warnings.append(
            f"the labels in {trainer.data.pseudo.path} have no sums, as earlier versions wrote them: a change"
            " of them would not be noticed."
        )
    warnings += _machine_warnings(trainer, recorder)
    listed = not_taken_lines(record) if record else []
    return "\n".join([pairs(rows), *listed, *(fill(f"warning: {warning}") for warning in warnings)])


def _machine_warnings(trainer: Trainer, recorder: Recorder) -> list[str]:
    """Say what the machine has too little of for this run."""
    ctx, num_workers = trainer.ctx, trainer.config.exec.num_workers
    if not ctx.is_main:
        return []
    found = [one for one in supplies(recorder.folder.path) if one.name != SHARED_MEMORY]
    warnings = [f"{one.name}: {one.text}. {one.advice}" for one in found if one.advice]
    if num_workers:
        first = trainer.batches(0)[0]
        image = next(load_batches(trainer.data, [(0, first[:1])], limit_s=trainer.config.exec.batch_limit_s))
        num_images, num_all = math.ceil(len(first) / ctx.size), num_workers * read_world().local_size
        memory = shared_memory_warning(image, num_images, num_all)
        warnings += [memory] if memory else []
    return warnings
