"""Checkpoints: whole or not there, damage found and named, the one before taken."""

import json
import random
import shutil

import pytest
import torch

from lambdanets.errors import CheckpointError
from lambdanets.training import checkpoint as module
from lambdanets.training.checkpoint import _list_checkpoints, load_checkpoint, save_checkpoint

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
SHAPE = (64, 80)  # 20 kB a file


def _tensors(value):
    names = ("model", "ema", "optimizer")
    return {name: {f"{name}.weight": torch.full(SHAPE, value + i)} for i, name in enumerate(names)}


def _save(root, step, keep=3):
    return save_checkpoint(root, step, _tensors(float(step)), {"step": step, "third": 1 / 3}, keep=keep)


@pytest.fixture
def root(tmp_path):
    """Two checkpoints; the tests damage the newer."""
    _save(tmp_path, 10)
    _save(tmp_path, 20)
    return tmp_path


def _assert_falls_back(root, *words):
    found = load_checkpoint(root)
    assert found.record["step"] == 10
    assert torch.equal(found.tensors["ema"]["ema.weight"], torch.full(SHAPE, 11.0))
    (skipped,) = found.skipped
    assert str(root / "step-00000020") in skipped
    for word in words:
        assert word in skipped


def test_what_was_saved_comes_back(root):
    assert {path.name for path in (root / "step-00000020").iterdir()} == set(FILES)
    found = load_checkpoint(root)
    assert found.path.name == "step-00000020" and found.skipped == ()
    assert found.record["third"] == 1 / 3
    assert torch.equal(found.tensors["optimizer"]["optimizer.weight"], torch.full(SHAPE, 22.0))


def test_there_may_be_none(tmp_path):
    assert load_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(root, name):
    (root / "step-00000020" / name).unlink()
    _assert_falls_back(root, name, "cannot be read (No such file or directory)")


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_found(root, name):
    path = root / "step-00000020" / name
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 4096), *range(max(0, len(whole) - 512), len(whole))}:
        path.write_bytes(whole[:size])
        _assert_falls_back(root, name)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_found(root, name):
    path = root / "step-00000020" / name
    whole = path.read_bytes()
    dice = random.Random(name)
    for bit in dice.sample(range(8 * len(whole)), min(200, 8 * len(whole))):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        _assert_falls_back(root)


def test_a_file_of_another_checkpoint_is_found(root):
    shutil.copy(root / "step-00000010" / "model.safetensors", root / "step-00000020" / "model.safetensors")
    _assert_falls_back(root, "model.safetensors does not have the SHA-256 of its manifest")


def test_a_pickle_is_never_opened(root):
    (root / "step-00000020" / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n.")
    _assert_falls_back(root, "model.safetensors has")


def test_when_none_is_whole_the_error_says_what_to_do(root):
    for path in _list_checkpoints(root):
        (path / "manifest.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"must hold a whole checkpoint, got 2 damaged\. Delete .* start again"
    ):
        load_checkpoint(root)


def test_a_newer_format_is_refused(root, monkeypatch):
    monkeypatch.setattr(module, "_FORMAT", 2)
    _save(root, 30)
    monkeypatch.setattr(module, "_FORMAT", 1)
    with pytest.raises(CheckpointError, match=r"step-00000030 must have format 1, got 2\."):
        load_checkpoint(root)


def test_only_the_newest_are_kept(tmp_path):
    for step in (9, 10, 99, 100):
        _save(tmp_path, step, keep=2)
    assert [path.name for path in _list_checkpoints(tmp_path)] == ["step-00000100", "step-00000099"]


def test_saving_a_damaged_step_again_replaces_it(root):
    (root / "step-00000020" / "ema.safetensors").write_bytes(b"damage")
    _save(root, 20)
    assert load_checkpoint(root).record["step"] == 20
    assert not list(root.glob(".tmp*"))


def test_the_record_is_plain_json(tmp_path):
    path = _save(tmp_path, 1)
    assert json.loads((path / "state.json").read_text()) == {"format": 1, "step": 1, "third": 1 / 3}
