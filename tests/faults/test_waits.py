"""Waits without an end: what makes batches hangs, is stopped, killed, or cannot hand them over."""

import fcntl
import os
import re
import resource
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from lambdanets import waiting
from lambdanets.data import check
from lambdanets.errors import DataError, StoppedError, StorageError
from lambdanets.processes import worker_pool
from lambdanets.runs import eval_table
from lambdanets.training.config import ExecConfig
from lambdanets.training.loader import load_batches
from support.training import Notes, TinyData, tiny_config, tiny_state, tiny_trainer

CALLS = [(0, part) for part in torch.arange(30).split(5)]


class FaultyData(TinyData):
    """Something happens to the process, or the thread, that makes the batch of one call."""

    def __init__(self, fault, at=1):
        super().__init__()
        self.fault, self.at = fault, at

    def batch(self, epoch, indices):
        if indices.tolist() == CALLS[self.at][1].tolist():
            getattr(self, self.fault)()
        return super().batch(epoch, indices)

    def hang(self):
        threading.Event().wait(30)

    def pipe(self):
        """A read that waits for a writer, as one of a dead network disk."""
        path = Path(f"/tmp/lambdanets-test-{os.getpid()}-{threading.get_ident()}")
        os.mkfifo(path)
        threading.Timer(30, path.unlink).start()
        path.read_bytes()

    def stop(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def stop_later(self):
        """When its batch is on its way, and its memory has still to be asked for."""
        threading.Timer(0.2, self.stop).start()

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def small_memory(self):
        """The limit holds for files of shared memory too."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    def few_files(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))


def _seconds(call):
    started = time.monotonic()
    call()
    return time.monotonic() - started


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_S", 0.05)
    monkeypatch.setattr(waiting, "_GRACE_S", 0.2)


@pytest.mark.parametrize(
    ("fault", "workers", "told"),
    [
        (
            "hang",
            0,
            r"a batch must come within 1 s, got none\. The usual cause is a disk that does not answer",
        ),
        ("hang", 1, r"a batch must come within 1 s, got none; processes that read: 1 asleep\."),
        pytest.param(
            "hang",
            2,
            r"got none; processes that read: 2 asleep\. .* --exec\.timeout-s\.$",
            marks=pytest.mark.slow,
        ),
        ("stop", 1, r"got none; processes that read: 1 stopped\."),
        pytest.param(
            "stop", 2, r"got none; processes that read: 1 asleep, 1 stopped\.", marks=pytest.mark.slow
        ),
        (
            "small_memory",
            1,
            r"go through shared memory \(/dev/shm\), got '.*too large.*'\. .*--shm-size 8g\.$",
        ),
        pytest.param(
            "small_memory",
            2,
            r"To mend it, use fewer --exec\.num-workers \(0: none\) or smaller batches",
            marks=pytest.mark.slow,
        ),
        ("few_files", 1, r"got '.*Too many open files.*'\. To mend it, .*ulimit -n 65536\.$"),
        pytest.param("kill", 2, "a process that reads images must live, got", marks=pytest.mark.slow),
    ],
)
def test_a_batch_that_does_not_come_is_one_sentence(quick, fault, workers, told):
    at = 0 if fault == "few_files" else 1
    limit_s = 10.0 if fault == "kill" else 1.0
    batches = load_batches(FaultyData(fault, at), CALLS, workers, limit_s=limit_s)
    with pytest.raises(DataError, match=told) as caught:
        list(batches)
    assert caught.value.exit_code == 4 and len(str(caught.value).splitlines()) == 1
    left = re.findall(r"</(torch_\w+)>", str(caught.value))
    assert left or fault != "small_memory"
    assert not any(Path("/dev/shm", name).exists() for name in left)


def test_workers_that_are_stopped_behind_their_batches_are_not_waited_for(quick):
    """The memory of a batch is asked for at its worker, by a call that has no limit."""
    batches = load_batches(TinyData(), CALLS, 2, limit_s=1.0)
    next(batches)
    time.sleep(0.3)
    for child in torch.multiprocessing.active_children():
        os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(DataError, match="must come within 1 s, got none; processes that read: 2 stopped"):
        list(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_waits_stops_at_its_step_and_goes_on_bit_for_bit(quick, workers):
    config = tiny_config(exec=ExecConfig(device="cpu", num_workers=workers))
    state, notes = tiny_state(config), Notes()
    data = _HangsAt(2)
    started = time.monotonic()
    trainer = tiny_trainer(
        config, data, callback=notes, stop_requested=lambda: time.monotonic() - started > 1
    )
    with pytest.raises(StoppedError, match="stopped at step 2 of 12; the same command continues there"):
        trainer.fit(state)
    assert time.monotonic() - started < 5
    assert notes.saved_steps == [2]
    tiny_trainer(config).fit(state)
    whole = tiny_state(config)
    tiny_trainer(config).fit(whole)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            state.model.state_dict().values(), whole.model.state_dict().values(), strict=True
        )
    )


class _HangsAt(TinyData):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def batch(self, epoch, indices):
        parts = [part.tolist() for part in self.order(0).tensor_split(4)]
        if epoch == 0 and indices.tolist() == parts[self.step]:
            threading.Event().wait(30)
        return super().batch(epoch, indices)


def test_a_lone_run_whose_batch_is_late_saves_what_it_has(quick):
    config = tiny_config(exec=ExecConfig(device="cpu", timeout_s=1.0))
    state, notes = tiny_state(config), Notes()
    with pytest.raises(DataError, match=r"a batch must come within 0\.9 s"):
        tiny_trainer(config, _HangsAt(3), callback=notes).fit(state)
    assert notes.saved_steps == [3]


@pytest.mark.slow
def test_a_child_that_is_stopped_neither_keeps_a_pool_nor_outlives_it(quick):
    children = []
    started = time.monotonic()
    with pytest.raises(DataError, match="late"), worker_pool(1, "nothing was changed.") as pool:
        # A debugger or a batch system stops a process so.
        future = pool.submit(signal.raise_signal, signal.SIGSTOP)
        children += torch.multiprocessing.active_children()
        waiting.wait_for(future, 10.0, lambda: DataError("late"))
    assert time.monotonic() - started < 20
    assert children and not any(Path(f"/proc/{child.pid}").exists() for child in children)


def test_pictures_that_are_never_read_end_data_check(quick, monkeypatch):
    monkeypatch.setattr(check, "_LIMIT_S", 0.3)
    source = _EndlessSource()
    with pytest.raises(DataError, match=r"data check: 32 images must be decoded within 0\.3 s, got none\."):
        list(check._decoded(source, "train", 2))


class _EndlessSource:
    labels = ("one",)
    targets = torch.zeros(3, dtype=torch.long)

    def __len__(self):
        return 3

    def name(self, index):
        return str(index)

    def relative_name(self, index):
        return b""

    def read(self, index):
        threading.Event().wait(30)


def test_a_table_that_another_process_holds_is_waited_for_and_then_refused(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_table, "_LOCK_S", 0.3)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(StorageError, match=r"got 'the folder was locked by another process for 0\.3 s'"):
        eval_table._append_row(tmp_path / "table.csv", {})
    threading.Timer(0.1, os.close, [holder]).start()
    eval_table._append_row(tmp_path / "table.csv", {})
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 2
