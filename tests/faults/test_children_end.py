"""Commands with children: however the parent ends, nobody is left, and what is finished is kept."""

import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MARK = "LAMBDANETS_TEST"
TABLES = "tables 9 --train digits --seeds 3 --processes 2 --results results --runs runs"
COMMANDS = {
    # A command with children, and files that are there once these work.
    "training": ("train digits --processes 2 --out run --sched.epochs 400", "run/metrics.jsonl"),
    "tables": (TABLES, "runs/*/metrics.jsonl"),
    "alone": ("train digits --out run --sched.epochs 400", "run/metrics.jsonl"),
    "measuring": ("tables 3 --measure --rows convolution --time-limit 60 --results results", None),
}

# One network is trained for an epoch, the others for very long.
UNEQUAL = """
import sys
from dataclasses import replace
from lambdanets.cli import run
from lambdanets.paper import train
from lambdanets.training.config import SchedConfig

made = train._config_of

def config_of(row, *arguments):
    config = made(row, *arguments)
    return replace(config, sched=SchedConfig(epochs=1 if row.label == "content only" else 400))

if __name__ == "__main__":
    train._config_of = config_of
    sys.exit(run(sys.argv[1:]))
"""


class Started:
    """A command in a session of its own, whose processes of any generation can be found."""

    def __init__(self, words, folder, program=("-m", "lambdanets"), **streams):
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", MARK: self.mark}
        self.output = folder / "output.txt"
        with self.output.open("ab") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True} | streams
            self.process = subprocess.Popen(
                [sys.executable, *program, *words.split()], cwd=folder, env=environment, **streams
            )

    def alive(self):
        """The numbers of the processes that have this mark and have not ended."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (
                    entry.name.isdecimal()
                    and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                ):
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [int(entry.name)] if state != "Z" else []
            except OSError:
                continue
        return found

    def wait_until(self, condition, what, limit_s=120):
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.output.read_text()}"
            time.sleep(0.05)

    def wait_for_work(self, folder, files):
        """Until the children are at work: they have written into files, where they write any."""
        if files is None:
            self.wait_until(lambda: len(self.alive()) > 1, "no children")
        else:
            self.wait_until(lambda: any(one.stat().st_size for one in folder.glob(files)), f"no {files}")


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(words, **streams):
        started.append(Started(words, tmp_path, **streams))
        return started[-1]

    yield begin
    for one in started:
        for pid in one.alive():
            os.kill(pid, signal.SIGKILL)
        one.process.wait()


@pytest.mark.parametrize(
    ("command", "number"),
    [
        # SIGTERM and SIGHUP: below.
        *(("tables", number) for number in (signal.SIGINT, signal.SIGKILL)),
        *(("training", number) for number in (signal.SIGHUP, signal.SIGKILL)),
        *(("measuring", number) for number in (signal.SIGINT, signal.SIGKILL)),
    ],
)
def test_nobody_is_left_when_the_parent_ends(command, number, start, tmp_path):
    words, files = COMMANDS[command]
    run = start(words)
    run.wait_for_work(tmp_path, files)
    assert len(run.alive()) > 1
    # Ctrl-C and a closed terminal reach the whole group, SIGKILL the parent alone.
    send = os.kill if number == signal.SIGKILL else os.killpg
    send(run.process.pid, number)
    run.wait_until(lambda: not run.alive(), f"left: {run.alive()}", 30)
    code = run.process.wait()
    output = run.output.read_text()
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    elif command != "measuring":
        assert code == (130 if command == "tables" else 75), output
        assert command == "tables" or "the same command continues there" in output
    assert "Traceback" not in output


def test_what_is_finished_outlives_the_command_and_a_killed_training_is_named(start, tmp_path):
    words = f"{TABLES} --rows content* --seeds 1"
    (tmp_path / "unequal.py").write_text(UNEQUAL)
    run = start(words, program=["unequal.py"])
    run.wait_until(lambda: "trainings: 2, 2 at a time\n" in run.output.read_text(), "nothing is shown", 30)
    run.wait_until(lambda: "training · epochs: " in run.output.read_text(), "no progress", 60)
    run.wait_until(lambda: "] digits" in run.output.read_text(), "no training is done")
    run.wait_for_work(tmp_path, "runs/digits-seed0/metrics.jsonl")
    os.kill(run.process.pid, signal.SIGTERM)
    run.wait_until(lambda: not run.alive(), "left", 30)
    assert run.process.wait() == 75
    assert "the same command continues the others" in run.output.read_text()
    results = "".join(path.read_text() for path in (tmp_path / "results").rglob("*.jsonl"))
    assert results.count("\n") == run.output.read_text().count("] digits") == 1
    # The training that was under way goes on where it stood.
    run = start(words, program=["unequal.py"])
    log = tmp_path / "runs/digits-seed0/train.log"
    run.wait_until(lambda: "continuing from step" in log.read_text(), "not continued")
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    os.kill(max(map(int, children)), signal.SIGKILL)
    assert run.process.wait(timeout=60) == 1
    expected = "tables: processes that train must live, got one of 2 that was killed, probably for memory."
    assert expected in run.output.read_text()
    run.wait_until(lambda: not run.alive(), "left", 10)


@pytest.mark.parametrize("command", ["tables", "training", "alone"])
def test_a_closed_terminal_is_a_request_to_stop(command, start, tmp_path):
    words, files = COMMANDS[command]
    leader, follower = pty.openpty()
    run = start(words, stdin=follower, stdout=follower, stderr=follower, preexec_fn=_take_terminal)
    os.close(follower)
    run.wait_for_work(tmp_path, files)
    os.close(leader)
    run.wait_until(lambda: not run.alive(), f"left: {run.alive()}", 30)
    saved = sorted(path.name for path in tmp_path.rglob("checkpoints/step-*"))
    assert run.process.wait() == 75
    # The step of the signal, not that of an epoch.
    assert any(int(name.removeprefix("step-")) % 21 for name in saved), saved


def _take_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
