"""The command in processes of its own: a kill, one folder for two, a finished run, several processes."""

import signal
import time

import pytest

from support.runs import QUICK, assert_same_run, records, run, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = run("train", "digits", "--out", folder, *QUICK)
    assert code == 0, output
    return folder


def _wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.005)


def test_killed_and_continued(tmp_path, undisturbed):
    folder = tmp_path / "a run with spaces, ünïcode"
    process = start("train", "digits", "--out", folder, *QUICK)
    metrics = folder / "metrics.jsonl"
    _wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 1, process)
    process.kill()
    process.communicate()
    code, output = run("train", "digits", "--out", folder, *QUICK)
    assert code == 0, output
    assert "continuing from step" in output or "starting again from step 0" in output
    assert_same_run(folder, undisturbed)


def test_two_runs_on_one_folder(tmp_path):
    first = start("train", "digits", "--out", tmp_path, *QUICK)
    _wait_for(lambda: (tmp_path / "config.json").exists(), first)
    code, output = run("train", "digits", "--out", tmp_path, *QUICK)
    assert code == 2
    assert f"must not be in use, got process {first.pid} on" in output
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert len(records(tmp_path)) == 3


def test_a_finished_run_says_so_and_leaves_everything(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.safetensors")}
    code, output = run("train", "digits", "--out", undisturbed, *QUICK)
    assert code == 0
    assert "is already finished" in output
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*.safetensors")}


def test_two_processes_by_one_command(tmp_path):
    """`--processes` watches and restarts, hands signals on, and gives the code of the processes."""
    words = ("train", "digits", "--out", tmp_path, *QUICK, "--processes", "2", "--exec.device", "cpu")
    process = start(*words)
    _wait_for((tmp_path / "best.safetensors").exists, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 75, output
    code, output = run(*words)
    assert code == 0 and "continuing from step" in output, output
    assert "2 processes, CPU each" in output
    assert "is already finished" in run(*words)[1]
    code, output = run(*words[:4], "--seed", "3", *words[4:])
    assert code == 2 and "seed: 0 -> 3" in output
