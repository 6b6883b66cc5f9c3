"""The SLURM script: bash understands it; among stand-ins for SLURM it stops, requeues and ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambdanets.errors import ArgumentError
from lambdanets.launch.slurm import slurm_script
from lambdanets.recipes import get_recipe
from lambdanets.text import shell_words
from lambdanets.training.config import RunConfig

WORDS = ["imagenet-lambda-resnet152-256", "--data.root", "/data/with blank"]

# In the place of torchrun: what a process of ours does. As under srun, a signal reaches every process.
TORCHRUN = """#!{python}
import pathlib, signal, sys, time
seen = pathlib.Path("seen")
seen.with_name("words").write_text("\\n".join(sys.argv[1:]))
assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
ending = pathlib.Path("ending").read_text()
def stop(number, frame):
    seen.with_name("asked").touch()
    time.sleep(0.2)
    sys.exit(1)
signal.signal(signal.SIGUSR1, stop)
seen.touch()
if ending == "wait":
    time.sleep(30)
sys.exit(int(ending))
"""
STAND_INS = {
    "scontrol": '#!/bin/bash\n[ "$1" = show ] && echo first && echo second || echo "$@" > requeued\n',
    "srun": '#!/bin/bash\nshift\nexec "$@"\n',
}


def script(**changes):
    given = {"command": "lambdanets slurm", "nodes": 2, "gpus_per_node": 8, "time": "1-00:00:00", **changes}
    return slurm_script(get_recipe(WORDS[0], RunConfig), WORDS, **given)


def test_a_detector_has_a_command_of_its_own():
    words = ["coco-lambda-resnet101", "--data.root", "/coco"]
    text = slurm_script(
        get_recipe(words[0], RunConfig), words, command="", nodes=2, gpus_per_node=8, time="1:00:00"
    )
    assert '-m lambdanets detect train coco-lambda-resnet101 --data.root /coco "$@"' in text


def test_bash_understands_it():
    done = subprocess.run(["bash", "-n"], input=script(), text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# What would run if it left its quotes, its line or its comment.
PLANTS = (
    *("$(touch P)", "`touch P`", "a\ntouch P\n#", "'; touch P; '"),
    *('"; touch P; "', "\r\ntouch P", "\x0btouch P", "\udce9"),
)


def test_nothing_that_is_planted_runs(tmp_path):
    """The whole script runs among stand-ins, and torchrun gets every word as it was."""
    plants = [word.replace("P", str(tmp_path / "P")) for word in PLANTS]
    words = [WORDS[0], *(part for word in plants for part in ("--data.root", word))]
    head = shell_words("lambdanets", "slurm", *words)
    text = slurm_script(
        get_recipe(WORDS[0], RunConfig), words, command=head, nodes=1, gpus_per_node=1, time="1:00:00"
    )
    torchrun = '#!/bin/bash\nprintf "%s\\0" "$@" > words\n'
    for name, content in {**STAND_INS, "torchrun": torchrun}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    environment = {"SLURM_JOB_NODELIST": "n", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1"}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash"], input=text.encode(), cwd=tmp_path, capture_output=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert not (tmp_path / "P").exists()
    found = (tmp_path / "words").read_bytes().split(b"\0")
    assert [found[place + 1] for place, word in enumerate(found) if word == b"--data.root"] == [
        word.encode(errors="surrogateescape") for word in plants
    ]


@pytest.mark.parametrize("time", ["1:00\ntouch P", "1 # x", "$(x)", "", "1:2:3:4", "-1", "\u0661"])
def test_a_limit_is_one_of_time(time):
    with pytest.raises(ArgumentError, match=r"slurm: time must be a limit as sbatch takes it, such as 90"):
        script(time=time)


def test_it_asks_for_what_was_asked_for():
    text = script()
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    # Nothing but comments comes before the directives, or SLURM would not read them.
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[:last])
    for directive in (
        *("nodes=2", "ntasks-per-node=1", "gpus-per-node=8", "cpus-per-task=72", "time=1-00:00:00"),
        *("signal=B:USR1@300", "requeue", "open-mode=append", "job-name=imagenet-lambda-resnet152-256"),
    ):
        assert f"#SBATCH --{directive}" in lines
    assert "--data.root '/data/with blank'" in text


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder with stand-ins for SLURM, where the script runs; gives what starts it."""
    for name, text in {**STAND_INS, "torchrun": TORCHRUN.format(python=sys.executable)}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "run.sh").write_text(script())
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "nodes[1-2]",
        "SLURM_NNODES": "2",
    }

    def start(ending: str) -> subprocess.Popen:
        (tmp_path / "ending").write_text(ending)
        return subprocess.Popen(
            ["bash", "run.sh", "--seed", "3"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
        )

    return start


def wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"no {path.name}")


@pytest.mark.parametrize("ending", ["0", "6"])
def test_the_end_of_the_run_is_the_end_of_the_job(job, tmp_path, ending):
    assert job(ending).wait(30) == int(ending)
    assert not (tmp_path / "requeued").exists()
    words = (tmp_path / "words").read_text().splitlines()
    assert "--rdzv-endpoint=first:23456" in words and "--nnodes=2" in words and "--nproc-per-node=8" in words
    assert words[-6:] == ["lambdanets", "train", *WORDS, "--seed", "3"][-6:]


def test_before_the_time_limit_the_run_saves_and_the_job_is_requeued(job, tmp_path):
    process = job("wait")
    wait_for(tmp_path / "seen")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert (tmp_path / "asked").exists()
    assert (tmp_path / "requeued").read_text() == "requeue 123456\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 0}, "slurm: nodes must be at least 1, got 0."),
        ({"gpus_per_node": -1}, "slurm: gpus_per_node must be at least 1, got -1."),
        (
            {"nodes": 1024},
            "slurm: nodes × gpus_per_node must be at most global_batch_size=4096, got 8192.",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ArgumentError, match=message.replace(".", r"\.")):
        script(**changes)
