"""`lambdanets doctor --dist`: two processes of this machine, and what is said when one is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from lambdanets.launch.collectives import launch_locally, try_collectives
from support.processes import free_port

COMMAND = [sys.executable, "-m", "lambdanets", "doctor", "--dist"]


@pytest.mark.slow
def test_two_processes_of_this_machine_hear_each_other(tmp_path, capfd):
    assert launch_locally(tmp_path, "auto", 30.0) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "     2 processes through gloo, 30 s each"
    assert lines[1:4] == ["ok   all_reduce", "ok   broadcast", "ok   barrier"]
    host = os.uname().nodename
    assert lines[4:] == [f"     rank {rank} -> {host} -> cpu (processor)" for rank in (0, 1)]
    assert not list(tmp_path.iterdir())


def alone(tmp_path, *more):
    """The first of two processes, without the second."""
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return subprocess.run(
        [*COMMAND, "--out", str(tmp_path), *more],
        env=os.environ | launched | address,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_a_process_that_stays_alone_gives_up_in_time_with_advice(tmp_path):
    done = alone(tmp_path, "--limit", "1")
    assert done.returncode == 1
    assert "BAD  process 0 of 2 on " in done.stderr
    assert "GLOO_SOCKET_IFNAME" in done.stderr and "lambdanets slurm" in done.stderr


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
@pytest.mark.slow
def test_nccl_without_a_gpu_is_exit_3(tmp_path):
    done = alone(tmp_path, "--backend", "nccl")
    assert done.returncode == 3
    message = (
        "doctor: backend nccl needs a GPU for each process of a machine, got 0 for process 1."
        " Use --backend gloo."
    )
    assert message in done.stderr


@pytest.mark.slow
def test_a_collective_that_ignores_its_limit_ends_the_process(tmp_path):
    code = (
        "import time\nfrom lambdanets.launch import collectives\ncollectives._GRACE_S = 0.1\n"
        "with collectives._within(0.1, 'barrier'): time.sleep(20)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("BAD  barrier took longer than 0.1 s.")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("all_reduce", "all_reduce gave a wrong sum"),
        ("broadcast", "broadcast gave other numbers than were sent"),
    ],
)
def test_wrong_numbers_are_noticed(tmp_path, monkeypatch, capsys, name, message):
    launched = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    for variable, value in launched.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(dist, name, lambda tensor, src=0: tensor.add_(1))
    try:
        assert try_collectives(tmp_path, "gloo", 30.0) == 1
    finally:
        dist.destroy_process_group()
    assert f"BAD  process 0 of 1 on {os.uname().nodename}: {message}\nAdvice: " in capsys.readouterr().err
