"""R7: a full disk leaves the last good checkpoint whole; the run goes on for a while, then ends with 7."""

import errno
import os
import resource

import pytest
import torch

from lambdanets.errors import StorageError
from lambdanets.runs import train as job
from lambdanets.training import checkpoint as module
from lambdanets.training.checkpoint import _list_checkpoints, load_checkpoint, save_checkpoint
from lambdanets.training.config import CkptConfig, SchedConfig
from lambdanets.training.run_folder import RunFolder
from support.tiny_run import tiny_task
from support.training import TinyData, tiny_config


def _tensors(value):
    return {"model": {"weight": torch.full((4000,), value)}}


@pytest.mark.parametrize("limit", [0, 1, 100, 4096, 15_000])
def test_a_file_that_may_not_grow(tmp_path, limit):
    """The system refuses every byte beyond a limit, in a fork of this process."""
    save_checkpoint(tmp_path, 1, _tensors(1.0), {"step": 1}, keep=2)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            save_checkpoint(tmp_path, 2, _tensors(2.0), {"step": 2}, keep=2)
        except StorageError as error:
            os._exit(7 if "must be writable, got 'File too large'" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    found = load_checkpoint(tmp_path)
    assert found.record["step"] == 1 and found.skipped == ()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_space_is_asked_for_before_a_byte_is_written(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, _tensors(1.0), {"step": 1}, keep=2)
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=17_000))
    with pytest.raises(StorageError, match=r"got '0\.0 MB are free, and the checkpoint takes 0\.0 MB'"):
        save_checkpoint(tmp_path, 2, _tensors(2.0), {"step": 2}, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


class _Disk:
    """Refuses the writes whose numbers it is given."""

    def __init__(self, real, refused):
        self.real, self.refused, self.calls = real, refused, 0

    def __call__(self, path, content):
        self.calls += 1
        if self.refused(self.calls):
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.real(path, content)


def _train(folder, epochs, tolerate, monkeypatch, refused):
    config = tiny_config(
        global_batch_size=10,
        sched=SchedConfig(epochs=epochs),
        ckpt=CkptConfig(keep=2, tolerate_failures=tolerate),
    )
    monkeypatch.setattr(job, "load_task", lambda config: tiny_task(TinyData(num=40)))
    # Four files of a checkpoint and its manifest: the first of each is refused or not.
    disk = _Disk(module.write_flushed, refused)
    monkeypatch.setattr(module, "write_flushed", disk)
    run = RunFolder(folder)
    with run.locked(config):
        job.train(config, run, command="lambdanets train")
    return run


@pytest.mark.usefixtures("no_figures")
def test_failures_are_borne_and_told(tmp_path, monkeypatch, capsys):
    # The second and third of four saves fail at their first file.
    run = _train(tmp_path, 4, 3, monkeypatch, lambda call: call in (6, 7))
    output = capsys.readouterr().out
    assert output.count("The run goes on without this checkpoint.") == 2
    assert len(run.warnings()) >= 2
    assert [path.name for path in _list_checkpoints(run.checkpoints)] == ["step-00000016", "step-00000004"]
    assert load_checkpoint(run.checkpoints).record["events"]["failed_saves"] == 2
    assert "got 'No space left on device'" in run.report.read_text()


@pytest.mark.usefixtures("no_figures")
def test_after_too_many_the_run_ends_with_7_and_its_last_checkpoint_is_whole(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="No space left on device") as raised:
        _train(tmp_path, 9, 2, monkeypatch, lambda call: call > 5)
    assert raised.value.exit_code == 7
    run = RunFolder(tmp_path)
    found = load_checkpoint(run.checkpoints)
    assert found.record["step"] == 4 and found.skipped == ()
    # Two failures were borne, in epochs 2 and 3.
    assert [record["epoch"] for record in run.read_metrics()] == [1, 2, 3, 4]


@pytest.mark.usefixtures("no_figures")
def test_a_log_that_cannot_be_written_never_ends_a_run(tmp_path, monkeypatch):
    (tmp_path / "train.log").mkdir()
    run = _train(tmp_path, 2, 0, monkeypatch, lambda call: False)
    assert run.report.exists()


@pytest.mark.usefixtures("no_figures")
def test_metrics_wait_until_the_disk_takes_them(tmp_path, monkeypatch):
    real, calls = RunFolder.append_metrics, [0]

    def full_once(self, record):
        calls[0] += 1
        if calls[0] == 2:
            raise StorageError("run folder: metrics.jsonl must be writable, got 'No space left on device'.")
        real(self, record)

    monkeypatch.setattr(RunFolder, "append_metrics", full_once)
    run = _train(tmp_path, 3, 0, monkeypatch, lambda call: False)
    assert [record["epoch"] for record in run.read_metrics()] == [1, 2, 3]
    assert any("metrics.jsonl must be writable" in warning for warning in run.warnings())
