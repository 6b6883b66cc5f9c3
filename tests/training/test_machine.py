"""Supplies of a machine: what is said where there is little, at the start of a run and by the doctor."""

import os
import resource
import shutil
import time
from types import SimpleNamespace

import pytest
import torch

from lambdanets.cli import run
from lambdanets.data.task import Batch
from lambdanets.runs import train as job
from lambdanets.training import machine
from lambdanets.training.machine import shared_memory_warning, supplies
from support.tiny_run import SETTINGS, tiny_task


@pytest.fixture
def plenty(monkeypatch):
    """A machine that lacks nothing, of which a test takes one thing away."""

    def become(shared=10**12, files=10**9, free_files=10**9, now=0.0):
        usage = SimpleNamespace(free=shared, total=10**12)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        monkeypatch.setattr(resource, "getrlimit", lambda number: (files, files))
        status = SimpleNamespace(f_files=10**10, f_favail=free_files)
        monkeypatch.setattr(os, "statvfs", lambda path: status)
        monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9 + now)

    become()
    return become


@pytest.mark.parametrize(
    ("lack", "name", "told"),
    [
        ({}, None, None),
        (
            {"shared": 64_000_000},
            "/dev/shm",
            "0.06 of 1000.00 GB free. Batches of workers must fit: docker",
        ),
        (
            {"files": 64},
            "open files",
            "at most 64 in a process. Workers and shards need more: ulimit -n",
        ),
        ({"files": resource.RLIM_INFINITY}, None, None),
        ({"free_files": 3}, "inodes", "3 files more fit on the disk of {folder}. Delete small files there"),
        ({"now": -7200.0}, "clock", "s behind files of {folder}. Set the clock: dates in logs"),
        ({"now": 7200.0}, None, None),
    ],
)
def test_what_there_is_little_of_is_named_with_a_remedy(plenty, tmp_path, lack, name, told):
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    plenty(**lack)
    lacking = [one for one in supplies(tmp_path) if one.advice]
    assert [one.name for one in lacking] == ([name] if name else [])
    if name:
        assert told.format(folder=tmp_path) in f"{lacking[0].text}. {lacking[0].advice}"


def test_a_system_without_shared_memory_or_inodes_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "SHARED_MEMORY", str(tmp_path / "none"))
    assert shared_memory_warning(Batch(torch.zeros(1), torch.zeros(1)), 10**12, 8) is None
    assert "inodes" in [one.name for one in supplies(tmp_path)]
    monkeypatch.setattr(machine, "_shared_memory", lambda: None)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=0, f_favail=0))
    assert [one.name for one in supplies(tmp_path)] == ["open files", "clock"]


@pytest.mark.parametrize(("free", "workers", "is_told"), [(1_000_000, 2, True), (10_000_000, 2, False)])
def test_batches_on_their_way_are_compared_with_shared_memory(plenty, free, workers, is_told):
    """Two for each worker, with the targets of a detector."""
    plenty(shared=free)
    targets = ({"boxes": torch.zeros(5, 4), "labels": torch.zeros(5, dtype=torch.long)},)
    batch = Batch(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), targets)
    needed = 2 * workers * 128 * (3 * 64 * 64 + 5 * 4 * 4 + 5 * 8)
    warning = shared_memory_warning(batch, 128, workers)
    assert (warning is not None) == is_told == (needed > free)
    if warning:
        assert f"of 2 workers need {needed / 1e9:.2f} GB of shared memory" in warning
        assert "--exec.num-workers (0: none)" in warning and "--shm-size 1g" in warning


def test_doctor_names_them_and_the_variables_of_a_launcher(tmp_path, capsys, monkeypatch):
    run(("doctor", "--out", str(tmp_path)))
    text = " ".join(capsys.readouterr().out.split())
    assert all(f" {name} " in text for name in ("/dev/shm", "open files", "inodes", "clock"))
    assert "ok launcher none" in text
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(("doctor", "--out", str(tmp_path))) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "BAD launcher WORLD_SIZE must stand beside RANK, MASTER_ADDR and MASTER_PORT, got 2" in text


@pytest.mark.slow
def test_a_run_warns_before_its_first_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(job, "load_task", lambda config: tiny_task())
    monkeypatch.setattr(machine, "_shared_memory", lambda: (1000, 1000))
    monkeypatch.setattr(machine, "_FEW_OPEN", 2**40)
    words = ["train", "digits", "--out", str(tmp_path), *SETTINGS, "--exec.num-workers", "1"]
    assert run(words) == 0
    before = " ".join(capsys.readouterr().out.split()).partition("epoch 1")[0]
    # Ten images of 6 x 6 numbers and a class each, twice.
    needed = 2 * 10 * (6 * 6 * 4 + 8)
    assert f"batches of 1 worker need {needed / 1e9:.2f} GB of shared memory" in before
    assert "warning: open files: at most" in before
