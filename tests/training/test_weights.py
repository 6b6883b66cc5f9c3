"""Weights and their description in one file."""

import hashlib
import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from lambdanets.errors import CheckpointError, StorageError
from lambdanets.training.weights import load_weights, save_weights, state_digest

SHARED = torch.arange(6.0).reshape(2, 3)
TENSORS = {"a": SHARED, "b": SHARED.T, "count": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}


def test_both_come_back_and_the_json_beside_says_the_same(tmp_path):
    path = tmp_path / "best.safetensors"
    save_weights(path, TENSORS, {"labels": ["ä", "b"]})
    tensors, description = load_weights(path)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert description["labels"] == ["ä", "b"]
    assert json.loads((tmp_path / "best.json").read_text()) == description
    save_file({"a": SHARED}, path)
    assert load_weights(path)[1] is None


def test_a_changed_weight_is_found(tmp_path):
    path = tmp_path / "best.safetensors"
    save_weights(path, TENSORS, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"best.safetensors is damaged.*digest of its header"):
        load_weights(path)


def test_the_digest_is_that_of_the_bytes():
    digest = hashlib.sha256()
    for name, kind, shape, values in [
        ("a", "torch.float32", "(2,)", struct.pack("<2f", 1.5, -2.0)),
        ("b", "torch.int64", "()", struct.pack("<q", 3)),
        ("empty", "torch.bool", "(0, 4)", b""),
    ]:
        digest.update(f"{name} {kind} {shape} ".encode() + values)
    column = torch.tensor([[1.5, 0], [-2.0, 0]])[:, 0]
    tensors = {"b": torch.tensor(3), "empty": torch.ones(0, 4, dtype=torch.bool), "a": column}
    assert state_digest(tensors) == digest.hexdigest()


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"load_weights: .*best.safetensors must be a safetensors file, got"
    ):
        load_weights(path)


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"must be writable, got 'No such file or directory'"):
        save_weights(tmp_path / "nowhere" / "best.safetensors", TENSORS, {})
