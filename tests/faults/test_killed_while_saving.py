"""R1: killed at any moment of a save, there is always a whole checkpoint and none that is half written."""

import math
import os
import random
import signal
import time
from pathlib import PosixPath

import pytest
import torch

from lambdanets.training import checkpoint as module
from lambdanets.training.checkpoint import (
    _list_checkpoints,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)

INTERVAL = 10


def _tensors(value):
    return {name: {"weight": torch.full((500,), value)} for name in ("model", "ema", "optimizer")}


def _save(root, step):
    save_checkpoint(root, step, _tensors(float(step)), {"step": step}, keep=2)


def _killed(act):
    """Run `act` in a fork of this process; whether it was killed, and not done before."""
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _check(root, before):
    """The state is that of the last whole save, at most one interval old, and the next save works."""
    found = load_checkpoint(root)
    assert found.skipped == ()
    assert found.record["step"] in (before, before + INTERVAL)
    expected = torch.full((500,), float(found.record["step"]))
    assert all(torch.equal(group["weight"], expected) for group in found.tensors.values())
    remove_leftovers(root)
    assert not list(root.glob(".tmp*"))
    return found.record["step"]


# Every call of the system that a save makes, before and after it takes effect.
POINTS = [
    (owner, name, number, moment)
    for owner, name, count in [
        (os, "fsync", 8),
        (os, "open", 3),
        (PosixPath, "rename", 2),
        (module, "write_flushed", 5),
        (module, "flush", 2),
        (module.shutil, "rmtree", 2),
    ]
    for number in range(count)
    for moment in ("before", "after")
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[1]}-{point[2]}-{point[3]}")
def test_at_every_call_of_the_system(tmp_path, monkeypatch, point):
    owner, name, number, moment = point
    for step in (INTERVAL, 2 * INTERVAL):
        _save(tmp_path, step)
    real, calls = getattr(owner, name), [0]

    def deadly(*arguments, **named):
        fatal = calls[0] == number
        calls[0] += 1
        if fatal and moment == "before":
            _die()
        result = real(*arguments, **named)
        if fatal:
            _die()
        return result

    monkeypatch.setattr(owner, name, deadly)
    killed = _killed(lambda: _save(tmp_path, 3 * INTERVAL))
    monkeypatch.undo()
    step = _check(tmp_path, 2 * INTERVAL)
    # A point that the save does not reach is none.
    assert killed or step == 3 * INTERVAL
    _save(tmp_path, step + INTERVAL)
    assert load_checkpoint(tmp_path).record["step"] == step + INTERVAL


def _counted(real, name, counts):
    def counted(*arguments, **named):
        counts[name] = counts.get(name, 0) + 1
        return real(*arguments, **named)

    return counted


def test_the_points_are_reached(tmp_path, monkeypatch):
    counts = {}
    for owner, name in {(owner, name) for owner, name, _, _ in POINTS}:
        monkeypatch.setattr(owner, name, _counted(getattr(owner, name), name, counts))
    for step in range(1, 4):
        counts.clear()
        _save(tmp_path, step)
    assert counts["fsync"] >= 7 and counts["rename"] == 2 and counts["write_flushed"] == 5


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_at_random_times(tmp_path, times):
    dice = random.Random(times)
    step, took = INTERVAL, math.inf
    _save(tmp_path, step)
    # The quickest of five: on a busy machine a single one may take longer than most of those to come.
    for _ in range(5):
        started = time.monotonic()
        step += INTERVAL
        _save(tmp_path, step)
        took = min(took, time.monotonic() - started)
    deaths = 0
    for _ in range(times):
        delay = dice.uniform(0, 1.5 * took)

        def act(delay=delay, step=step):
            signal.signal(signal.SIGALRM, lambda *_: _die())
            signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6))
            _save(tmp_path, step + INTERVAL)

        deaths += _killed(act)
        step = _check(tmp_path, step)
    assert deaths >= times // 4
    assert _list_checkpoints(tmp_path)
