"""What TensorBoard reads back: every number of every record, each step once, whatever happened to the run."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lambdanets.errors import DependencyError
from lambdanets.runs.tensorboard import TensorBoardSink

pytest.importorskip("tensorboard", reason="the extra is not installed")


def _record(epoch, accuracy=None):
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "learning_rate": 0.5 / epoch,
        "train_loss": 2.0 / epoch,
        "test_accuracy": epoch / 10 if accuracy is None else accuracy,
        "raw_test_accuracy": epoch / 20,
        "images_per_s": 100.0,
    }


def _read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_each_number_is_a_scalar_over_the_steps(tmp_path):
    with closing(TensorBoardSink(tmp_path)) as sink:
        for epoch in (1, 2, 3):
            sink.add({**_record(epoch), "note": "words", "best": None, "done": True, "bad": float("nan")})
    assert _read(tmp_path) == {
        "run/epoch": [(10, 1), (20, 2), (30, 3)],
        "run/learning_rate": [(10, 0.5), (20, 0.25), (30, 0.5 / 3)],
        "train/loss": [(10, 2.0), (20, 1.0), (30, 2 / 3)],
        "test/accuracy": [(10, 0.1), (20, 0.2), (30, 0.3)],
        "test/raw_accuracy": [(10, 0.05), (20, 0.1), (30, 0.15)],
        "run/images_per_s": [(10, 100.0), (20, 100.0), (30, 100.0)],
    }


def test_a_continued_run_shows_no_step_twice(tmp_path):
    """Killed after epoch 3, of which the checkpoint knew 2: epoch 3 is made again."""
    first = TensorBoardSink(tmp_path)
    for epoch in (1, 2, 3):
        first.add(_record(epoch))
    # A killed process closes nothing.
    with closing(TensorBoardSink(tmp_path)) as second:
        for epoch in (3, 4):
            second.add(_record(epoch, accuracy=0.9))
    first.close()
    assert _read(tmp_path)["test/accuracy"] == [(10, 0.1), (20, 0.2), (30, 0.9), (40, 0.9)]


def test_the_history_is_written_where_there_was_no_sink(tmp_path):
    with closing(TensorBoardSink(tmp_path, [_record(1), _record(2)])) as sink:
        sink.add(_record(3))
    with closing(TensorBoardSink(tmp_path, [_record(1), _record(2), _record(3)])) as sink:
        sink.add(_record(4))
    assert [step for step, _ in _read(tmp_path)["train/loss"]] == [10, 20, 30, 40]


def test_a_rollback_hides_what_it_takes_back(tmp_path):
    with closing(TensorBoardSink(tmp_path)) as sink:
        for epoch, accuracy in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.8), (3, 0.9)):
            sink.add(_record(epoch, accuracy))
    assert _read(tmp_path)["test/accuracy"] == [(10, 0.1), (20, 0.8), (30, 0.9)]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from lambdanets.runs.tensorboard import TensorBoardSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
sink = TensorBoardSink(folder)
sink.add({"step": 1, "test_accuracy": 0.1})
size = sum(path.stat().st_size for path in folder.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
for step in (2, 3, 4):
    sink.add({"step": step, "test_accuracy": 0.2})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.add({"step": 5, "test_accuracy": 0.5})
sink.close()
"""


@pytest.mark.slow
def test_a_full_disk_costs_the_events_alone(tmp_path):
    source = str(Path(sys.modules["lambdanets"].__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.returncode == 0, done.stderr
    found = _read(tmp_path)["test/accuracy"]
    assert found[0] == (1, 0.1) and found[-1] == (5, 0.5)


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(DependencyError, match=r"must be installed, got none\. pip install tensorboard"):
        TensorBoardSink(tmp_path)


@pytest.mark.slow
def test_training_knows_nothing_of_it():
    code = (
        "import sys, lambdanets.training.loop, lambdanets.runs.train; sys.exit('tensorboard' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
