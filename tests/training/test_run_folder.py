"""One config and one process to a run folder."""

import json

import pytest

from lambdanets.errors import ArgumentError, CheckpointError, PathError, StorageError
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder
from support.training import tiny_config

RECORD = {"epoch": 1, "step": 4, "test_accuracy": 0.5, "test_correct": 2, "test_total": 4}


def test_a_second_process_is_refused_and_the_first_is_named(tmp_path):
    config = tiny_config()
    with RunFolder(tmp_path).locked(config):
        pid = json.loads((tmp_path / ".lock").read_text())["pid"]
        with (
            pytest.raises(ArgumentError, match=rf"must not be in use, got process {pid} on .* at work in it"),
            RunFolder(tmp_path).locked(config),
        ):
            pass
    with RunFolder(tmp_path).locked(config):
        pass


def test_other_settings_are_refused_once_there_are_results(tmp_path):
    with RunFolder(tmp_path).locked(tiny_config()) as folder:
        folder.append_metrics(RECORD)
    message = r"holds a run with other settings, old -> new:\n  seed: 0 -> 1\n  ema_decay: 0.98 -> 0.5\n"
    with (
        pytest.raises(ArgumentError, match=message),
        RunFolder(tmp_path).locked(tiny_config(seed=1, ema_decay=0.5)),
    ):
        pass


def test_settings_without_results_can_be_corrected(tmp_path):
    with RunFolder(tmp_path).locked(tiny_config()):
        pass
    with RunFolder(tmp_path).locked(tiny_config(seed=1)) as folder:
        assert folder.read_config(TrainConfig) == tiny_config(seed=1)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seed": 0'])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with (
        pytest.raises(CheckpointError, match=r"config.json must hold a config, got"),
        RunFolder(tmp_path).locked(tiny_config()),
    ):
        pass


def test_a_folder_that_cannot_be_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"file/run must be writable, got 'Not a directory'"),
        RunFolder(tmp_path / "file" / "run").locked(tiny_config()),
    ):
        pass


def test_no_run_is_a_path_error(tmp_path):
    with pytest.raises(PathError, match=r"must be a folder of `lambdanets train` with config.json, got none"):
        RunFolder.existing(tmp_path)


def test_lines_beyond_the_checkpoint_and_cut_lines_go(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (4, 8, 12):
        folder.append_metrics({**RECORD, "step": step})
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 4, "st')
    assert [record["step"] for record in folder.read_metrics()] == [4, 8, 12]
    folder.drop_metrics_after(8)
    assert folder.metrics.read_text() == "".join(json.dumps({**RECORD, "step": s}) + "\n" for s in (4, 8))


def test_a_run_is_finished_when_its_report_is_there(tmp_path):
    config = tiny_config()
    folder = RunFolder(tmp_path)
    folder.append_metrics({**RECORD, "epoch": config.sched.epochs})
    assert folder.finished(config) is None
    folder.report.write_text("# done")
    assert "is already finished: 50.00% (2 of 4) after epoch 3." in folder.finished(config)


def test_sessions_and_warnings_outlive_the_process(tmp_path):
    for number in (1, 2, 3):
        with RunFolder(tmp_path).locked(tiny_config()) as folder:
            assert folder.count_session() == number
            folder.append_log(f"warning: number {number}\nnot one")
    assert folder.sessions() == 3
    assert folder.warnings() == ["number 1", "number 2", "number 3"]
