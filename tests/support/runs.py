"""The command line in another process, and what a run folder holds."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from lambdanets.data.config import FolderConfig
from lambdanets.recipes import get_recipe
from lambdanets.runs import tasks
from lambdanets.runs import train as train_module
from lambdanets.runs.recorder import Recorder
from lambdanets.runs.tasks import load_task, make_job
from lambdanets.training.config import ModelConfig
from lambdanets.training.distributed import ALONE
from lambdanets.training.run_folder import RunFolder
from support.images import make_folder
from support.training import without_times

# Small and quick, with a checkpoint after each of three epochs of six steps.
QUICK = (
    "--num-threads",
    "1",
    "--sched.epochs",
    "3",
    "--sched.warmup-epochs",
    "1",
    "--global-batch-size",
    "256",
    "--ckpt.every-epochs",
    "1",
)


# The evaluation of the weights that `write_run` writes.
METRIC = {"epoch": 2, "step": 7, "test_accuracy": 0.5, "test_correct": 1, "test_total": 2}


def write_run(path, config, change=lambda ema: None):
    """A run folder as two epochs leave it, without training: random weights, and no report.

    Args:
        path: The folder.
        config: The settings of the run.
        change: Changes the EMA model before it is written.

    Returns:
        The state, to be stored as a checkpoint too.
    """
    with RunFolder(path).locked(config) as folder:
        task = load_task(config)
        job = make_job(config, task)
        state = train_module.first_state(config, job)
        state.best = METRIC
        change(state.ema.module)
        Recorder(config, folder, job, ALONE)._save_best(state, state.ema.module)
        folder.append_metrics(METRIC)
    return state


def photo_run(root, classes):
    """A run on small colour images in folders, with random weights.

    Args:
        root: The folder of the images; the run is below.
        classes: Their names, with two images each to train and to validate with.

    Returns:
        The folder of the run, its settings and its state.
    """
    for part in ("train", "val"):
        make_folder(root / part, classes, each=2)
    config = replace(
        get_recipe("digits-conv"),
        model=ModelConfig(name="resnet_digits"),
        data=FolderConfig(root=str(root), image_size=16),
    )
    return root / "run", config, write_run(root / "run", config)


def train_run(path, config):
    """Train a config in a folder, but write no report: its figures take longer than a short training."""
    with pytest.MonkeyPatch.context() as patch, RunFolder(path).locked(config) as folder:
        patch.setattr(tasks, "write_report", lambda *_, **__: "")
        train_module.train(config, folder, command=f"lambdanets train {config.recipe}")
    return path


def start(*words):
    """Start `lambdanets` with one thread, so that numbers do not depend on the machine's load."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "lambdanets", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )


def run(*words):
    """Run `lambdanets` to its end; give the exit code and what it printed."""
    process = start(*words)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def records(folder):
    return without_times(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))


def assert_same_run(left, right):
    """Bit for bit: all tensors of the last checkpoint, the kept weights, and the metrics apart from times."""
    last = max((left / "checkpoints").iterdir()).name
    for name in ("model", "ema", "optimizer"):
        ours = load_file(left / "checkpoints" / last / f"{name}.safetensors")
        theirs = load_file(right / "checkpoints" / last / f"{name}.safetensors")
        assert ours.keys() == theirs.keys()
        assert all(ours[key].equal(theirs[key]) for key in ours), name
    assert (left / "best.safetensors").read_bytes() == (right / "best.safetensors").read_bytes()
    assert records(left) == records(right)
