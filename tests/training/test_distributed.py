"""What processes say to each other, and how a network is made ready for them."""

import functools
import os
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from lambdanets.errors import ArgumentError, DataError, DependencyError, LostProcessError
from lambdanets.models import create_model
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import DistributedContext, init_distributed, prepare_model
from support.processes import free_port, run_ranks
from support.training import tiny_config, tiny_model, tiny_state


def test_alone_there_is_nothing_to_agree_on():
    ctx = DistributedContext()
    assert ctx.is_main and ctx.sum_values([1, 2.5]) == [1.0, 2.5] and ctx.all_gather("a") == ["a"]
    assert ctx.from_main(lambda: 3) == 3
    assert ctx.shard(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]
    tensor = torch.ones(2)
    assert ctx.all_reduce(tensor) is tensor


def _agreements(ctx):
    mine = torch.tensor([ctx.rank, 10], dtype=torch.int64)
    calls = []

    def make():
        calls.append(ctx.rank)
        return {"by": ctx.rank}

    made = ctx.from_main(make)
    return (
        ctx.sum_values([ctx.rank, 0.5]),
        ctx.all_reduce(mine).tolist(),
        mine.tolist(),
        ctx.all_gather(("rank", ctx.rank)),
        made,
        calls,
        ctx.shard(torch.arange(7)).tolist(),
    )


def test_three_processes_agree():
    shares = []
    for rank, result in enumerate(run_ranks(_agreements, 3)):
        sums, total, mine, gathered, made, calls, share = result
        assert sums == [3.0, 1.5] and total == [3, 30] and mine == [rank, 10]
        assert gathered == [("rank", 0), ("rank", 1), ("rank", 2)]
        assert made == {"by": 0} and calls == ([0] if rank == 0 else [])
        shares.append(share)
    assert shares == [[0, 1, 2], [3, 4], [5, 6]]


def _first_fails(ctx):
    def fail():
        raise DataError("only the first process looks")

    try:
        ctx.from_main(fail)
    except DataError as error:
        return str(error)
    return None


def test_an_error_of_the_first_is_that_of_all():
    assert run_ranks(_first_fails, 2) == ["only the first process looks"] * 2


def _averaged(ctx):
    model = nn.BatchNorm1d(3)
    model.running_mean.fill_(float(ctx.rank))
    ctx.average_buffers(model)
    return model.running_mean.tolist(), int(model.num_batches_tracked)


def test_running_statistics_become_their_mean():
    assert run_ranks(_averaged, 3) == [([1.0, 1.0, 1.0], 0)] * 3


def _one_leaves(ctx):
    if ctx.rank == 1:
        os._exit(3)
    time.sleep(0.2)
    ctx.sum_values([1.0])


def test_a_process_that_is_gone_is_said_to_be():
    with pytest.raises(LostProcessError, match=r"process 0 waited for another one that has ended"):
        run_ranks(_one_leaves, 2)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    message = r"exec: device cuda needs a GPU for each process of a machine, got 1 for process 2"
    with pytest.raises(DependencyError, match=message), init_distributed(ExecConfig(device="cuda")):
        pass


def test_switches_of_the_settings():
    model = create_model("lambda_resnet_digits", num_classes=10, in_channels=1)
    ready = prepare_model(
        model, ExecConfig(device="cpu", gradient_checkpointing=True, channels_last=True), DistributedContext()
    )
    assert ready.gradient_checkpointing
    weight = next(p for p in ready.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("settings", "ctx", "message"),
    [
        (
            {"gradient_checkpointing": True},
            DistributedContext(),
            r"exec\.gradient_checkpointing must be off for a network without that switch, got Sequential\.",
        ),
        (
            {"sync_batch_norm": True},
            DistributedContext(size=2),
            r"exec\.sync_batch_norm must be off on a CPU, got on\.",
        ),
    ],
)
def test_what_a_network_or_device_cannot_do(settings, ctx, message):
    with pytest.raises(ArgumentError, match=message):
        prepare_model(tiny_model(), ExecConfig(device="cpu", **settings), ctx)


def test_a_compiled_network_keeps_its_names_and_its_numbers(monkeypatch):
    # The compiler's own threads would be in the way of the tests that fork.
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="eager"))
    torch.manual_seed(0)
    model = tiny_model().eval()
    expected = model(torch.ones(2, 1, 6, 6))
    # Once the compiler is loaded, a first backward would start threads that no test may fork with.
    expected.sum().backward()
    config = tiny_config(exec=ExecConfig(device="cpu", compile=True))
    state = tiny_state(config, model)
    assert state.model.state_dict().keys() == tiny_model().state_dict().keys()
    assert state.ddp_model is state.model
    torch.testing.assert_close(state.ddp_model(torch.ones(2, 1, 6, 6)), expected)


# Two processes by fork. What is registered first runs last: after the library's own clean-up.
_LEAVE = """
import atexit, os, pathlib, sys
def report(when):
    threads = {path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")}
    os.write(1, f"{when}: {'pt_gloo_runloop' in threads}\\n".encode())
atexit.register(report, "left")
import torch
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import init_distributed
os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": sys.argv[1], "WORLD_SIZE": "2"}
os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(int(os.fork() == 0))
with init_distributed(ExecConfig(device="cpu", timeout_s=30)):
    ddp_model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    report("inside")
del ddp_model
if os.environ["RANK"] == "0":
    os.wait()
"""


@pytest.mark.slow
def test_the_threads_of_gloo_are_gone_before_the_interpreter():
    """One that still drops a tensor then would abort the process: exit code -6 after all is done."""
    done = subprocess.run(
        [sys.executable, "-c", _LEAVE, str(free_port())],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sorted(done.stdout.splitlines()) == ["inside: True", "inside: True", "left: False", "left: False"]
