"""Whole checkpoints, correctly summed, that hold what no run writes; disks that fail; runs at work."""

import copy
import errno
import hashlib
import json
import math
import os
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from lambdanets.errors import CheckpointError, StorageError
from lambdanets.training.checkpoint import load_checkpoint, save_checkpoint
from lambdanets.training.content import check_content
from lambdanets.training.weights import load_weights, save_weights
from support.training import tiny_config, tiny_model, tiny_state, tiny_trainer

CONFIG = tiny_config()
MISSING = object()
ODD = {
    "missing": MISSING,
    "text": "x",
    "null": None,
    "nan": math.nan,
    "negative": -1,
    "huge": 2**70,
    "list": [1],
    "object": {"x": 1},
    "true": True,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints of a run, after the fourth and the eighth step."""
    root = tmp_path_factory.mktemp("run") / "checkpoints"
    state, trainer = tiny_state(CONFIG), tiny_trainer(CONFIG)
    trainer.callback.on_epoch_end = lambda state, record: None

    def save(state, *, must=False):
        tensors = state.tensors()
        record = {**state.record(CONFIG), "tensors": {name: len(group) for name, group in tensors.items()}}
        save_checkpoint(root, state.step, tensors, record, keep=3)

    trainer.callback.save = save
    trainer.fit(state)
    return root


@pytest.fixture
def root(saved, tmp_path):
    """The same, to be changed: hard links cost no time."""
    for file in saved.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(saved)
            target.parent.mkdir(exist_ok=True)
            os.link(file, target)
    return tmp_path


def _newest(root):
    return max(root.glob("step-*"))


def _sign(folder, name, content):
    """Put a file into a checkpoint as if it had been written so."""
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _places(value, path=()):
    """The path to each entry of nested objects."""
    for name, inner in value.items():
        yield (*path, name)
        if isinstance(inner, dict):
            yield from _places(inner, (*path, name))


def _restored(root):
    state = tiny_state(CONFIG)
    state.restore(load_checkpoint(root, check_content), CONFIG)
    return state


@pytest.mark.parametrize(
    "odd", [pytest.param(odd, marks=[] if odd == "missing" else pytest.mark.slow) for odd in ODD]
)
def test_an_odd_entry_is_damage(root, odd):
    newest = _newest(root)
    whole = json.loads((newest / "state.json").read_text())
    last, before = whole["step"], _step_before(root)
    taken = set()
    for place in _places(whole):
        changed = copy.deepcopy(whole)
        owner = changed
        for name in place[:-1]:
            owner = owner[name]
        if ODD[odd] is MISSING:
            del owner[place[-1]]
        else:
            owner[place[-1]] = ODD[odd]
        _sign(newest, "state.json", json.dumps(changed).encode())
        try:
            step = _restored(root).step
        # Another format, and settings that are possible but not those of the run.
        except CheckpointError as error:
            assert "must have format" in str(error) or "with other settings" in str(error), place
            continue
        assert step in (last, before), place
        if step == last:
            taken.add(".".join(place))
    # What may be so: no counts of tensors or no sums yet; of a scaler there is none on this machine.
    harmless = ["tensors", "scaler", "best", "config", "meter.sums", "world_size", "meter.loss_sum"]
    harmless += ["events.skipped_steps", "events.rolled_back_steps"] if odd == "list" else []
    assert not [name for name in taken if not name.startswith(tuple(harmless))]


def _step_before(root):
    """The step of the checkpoint before the newest."""
    return int(sorted(root.glob("step-*"))[-2].name.removeprefix("step-"))


TENSORS = {
    "missing": lambda tensors, name: tensors.pop(name),
    "bytes": lambda tensors, name: tensors.update({name: tensors[name].to(torch.int8)}),
    "longer": lambda tensors, name: tensors.update({name: torch.zeros(7, 7, 7)}),
    "other name": lambda tensors, name: tensors.update({"x/y": tensors.pop(name)}),
    "another": lambda tensors, name: tensors.update({"x": torch.zeros(1)}),
}


@pytest.mark.parametrize("change", TENSORS)
@pytest.mark.parametrize("group", ["model", "ema", "optimizer"])
def test_an_odd_tensor_is_damage(root, group, change):
    newest = _newest(root)
    for name in load_file(newest / f"{group}.safetensors"):
        tensors = load_file(newest / f"{group}.safetensors")
        TENSORS[change](tensors, name)
        save_file(tensors, root / "changed")
        # Each change begins with what was written.
        kept = (newest / f"{group}.safetensors").read_bytes()
        _sign(newest, f"{group}.safetensors", (root / "changed").read_bytes())
        found = load_checkpoint(root, check_content)
        _sign(newest, f"{group}.safetensors", kept)
        assert found.record["step"] == _step_before(root) and len(found.skipped) == 1, name


def _failing(monkeypatch, fails):
    """The disk fails to open some paths, with an error that names no file."""
    real = os.open

    def broken(path, *arguments, **options):
        if fails(str(path)) and not arguments[0] & os.O_CREAT:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *arguments, **options)

    monkeypatch.setattr("lambdanets.reading.os.open", broken)


@pytest.mark.parametrize(
    "name", ["manifest.json", "state.json", "model.safetensors", "optimizer.safetensors"]
)
def test_a_disk_that_fails_at_the_newest_leaves_the_one_before(root, monkeypatch, name):
    _failing(monkeypatch, lambda path: path == str(_newest(root) / name))
    found = load_checkpoint(root, check_content)
    assert found.record["step"] == _step_before(root)
    assert f"{name} cannot be read (Input/output error)" in found.skipped[0]


def test_a_save_that_does_not_read_back_is_a_failed_save(root, monkeypatch):
    before = load_checkpoint(root).path
    _failing(monkeypatch, lambda path: "model.safetensors" in path)
    with pytest.raises(StorageError, match="Input/output error"):
        save_checkpoint(root, 99, {"model": tiny_model().state_dict()}, {"step": 99}, keep=1)
    monkeypatch.undo()
    assert before.is_dir() and load_checkpoint(root).record["step"] <= 99


def _while_writing(write, read, times):
    """Call `read` many times while another thread calls `write` with growing numbers."""
    done = threading.Event()

    def work():
        number = 1
        while not done.is_set():
            write(number)
            number += 1

    writer = threading.Thread(target=work)
    writer.start()
    try:
        return [read() for _ in range(times)]
    finally:
        done.set()
        writer.join()


def test_a_run_at_work_is_read(tmp_path):
    """Each checkpoint replaces the one before; a reader never sees half of one."""

    def write(number):
        tensors = {"model": {"weight": torch.full((3000,), float(number))}}
        save_checkpoint(tmp_path, number, tensors, {"step": number}, keep=1)

    write(0)
    for found in _while_writing(write, lambda: load_checkpoint(tmp_path), 100):
        assert found.skipped == () and (found.tensors["model"]["weight"] == found.record["step"]).all()


def test_weights_that_are_replaced_are_read(tmp_path):
    path = tmp_path / "best.safetensors"

    def write(number):
        save_weights(path, {"weight": torch.full((3000,), float(number))}, {"number": number})

    write(0)
    for tensors, description in _while_writing(write, lambda: load_weights(path), 150):
        assert (tensors["weight"] == description["number"]).all()
