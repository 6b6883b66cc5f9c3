"""R8, R9, R10 and R12 in processes of their own: kills, restarts, errors and signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.runs import assert_same_run
from support.tiny_run import SETTINGS

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "support/tiny_run.py"
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]),
}


def _start(folder, *settings, processes=1, restarts=0, fault=None):
    words = [
        *(["--fault", fault] if fault else []),
        "train",
        "digits",
        "--out",
        str(folder),
        *SETTINGS,
        *settings,
    ]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--monitor-interval", "0.1"]
    torchrun += ["--nproc-per-node", str(processes), "--max-restarts", str(restarts)]
    return subprocess.Popen(
        [sys.executable, *(torchrun if processes > 1 else []), str(SCRIPT), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def _run(folder, *settings, **options):
    process = _start(folder, *settings, **options)
    output, _ = process.communicate(timeout=180)
    assert _nobody_left(process)
    return process.returncode, output


def _children(process):
    """The processes that torchrun has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def _nobody_left(process):
    """Whether every process of the session has gone within two seconds."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return _undisturbed(tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return _undisturbed(tmp_path_factory.mktemp("pair"), 2)


def _undisturbed(folder, processes):
    code, output = _run(folder, processes=processes)
    assert code == 0, output
    return folder


@pytest.mark.parametrize(("rank", "step"), [(1, 6), (0, 9)])
def test_torchrun_starts_again_after_a_kill(tmp_path, pair, rank, step):
    run = tmp_path / "run"
    fault = f"{rank}:{step}:kill:{tmp_path / 'marker'}"
    started = time.monotonic()
    code, output = _run(run, processes=2, restarts=2, fault=fault)
    assert code == 0, output
    assert (tmp_path / "marker").exists()
    assert f"continuing from step {step // 4 * 4}" in output
    assert_same_run(run, pair)
    assert time.monotonic() - started < 90


def test_the_whole_tree_is_killed_and_the_same_command_continues(tmp_path, pair):
    process = _start(tmp_path, processes=2, fault=f"0:0:slow:{tmp_path / 'marker'}")
    _wait_for(lambda: (tmp_path / "checkpoints/step-00000004").exists(), process)
    for pid in [process.pid, *_children(process)]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert _nobody_left(process)
    code, output = _run(tmp_path, processes=2)
    assert code == 0 and "continuing from step" in output, output
    assert_same_run(tmp_path, pair)


def test_without_torchrun_its_processes_save_and_stop(tmp_path, pair):
    process = _start(tmp_path, processes=2, fault=f"0:0:slow:{tmp_path / 'marker'}")
    _wait_for(lambda: (tmp_path / "checkpoints/step-00000004").exists(), process)
    children = _children(process)
    process.kill()
    output, _ = process.communicate(timeout=60)
    assert "the same command continues there" in output
    _wait_for(lambda: all(_is_gone(pid) for pid in children))
    assert _run(tmp_path, processes=2)[0] == 0
    assert_same_run(tmp_path, pair)


def test_an_error_in_one_process_ends_all_and_is_the_one_shown(tmp_path):
    marker = tmp_path / "marker"
    code, output = _run(tmp_path / "run", processes=2, fault=f"1:5:raise:{marker}")
    assert time.time() - marker.stat().st_mtime < 20
    assert code == 1
    assert output.count("RuntimeError: planted: the images of this process are gone") == 1
    assert "waited for another one that has ended" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_exits_with_75(tmp_path, alone, number):
    process = _start(tmp_path, fault="0:0:slow:none")
    _wait_for(lambda: (tmp_path / "best.safetensors").exists(), process)
    started = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    # A step takes 0.2 s.
    assert time.monotonic() - started < 5
    code, output = _run(tmp_path)
    assert code == 0 and "continuing from step" in output
    assert_same_run(tmp_path, alone)


def test_a_signal_to_one_process_of_two_stops_both(tmp_path, pair):
    process = _start(tmp_path, processes=2, fault="0:0:slow:none")
    _wait_for(lambda: (tmp_path / "best.safetensors").exists(), process)
    os.kill(_children(process)[-1], signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    # torchrun says 1 for whatever its processes say: `--processes` hands 75 on.
    assert process.returncode == 1 and "the same command continues there" in output, output
    code, output = _run(tmp_path, processes=2)
    assert code == 0 and "continuing from step" in output
    assert_same_run(tmp_path, pair)


def test_the_second_ctrl_c_leaves_at_once(tmp_path, alone):
    process = _start(tmp_path, fault="0:0:slow:none")
    _wait_for(lambda: (tmp_path / "best.safetensors").exists(), process)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (75, 130) and time.monotonic() - started < 5
    assert _run(tmp_path)[0] == 0
    assert_same_run(tmp_path, alone)


def test_a_worker_that_is_killed_is_named(tmp_path, alone):
    fault = f"0:6:worker:{tmp_path / 'marker'}"
    run = tmp_path / "run"
    code, output = _run(run, "--exec.num-workers", "1", fault=fault)
    assert code == 4, output
    assert "a process that reads images must live, got '" in output
    assert "use fewer with --exec.num-workers" in output
    # What was done is kept, up to the last step.
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] >= "step-00000005"
    code, output = _run(run, "--exec.num-workers", "1")
    assert code == 0 and "continuing from step" in output, output
    assert_same_run(run, alone)


def _is_gone(pid):
    """Whether a process has ended, fetched by its parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _wait_for(condition, process=None):
    deadline = time.monotonic() + 90
    while not condition():
        alive = process is None or process.poll() is None
        assert alive and time.monotonic() < deadline, process and process.stdout.read()
        time.sleep(0.01)
