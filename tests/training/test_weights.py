"""Weights and their description in one file."""

import json

import pytest
import torch

from lambdanets.errors import CheckpointError, StorageError
from lambdanets.training.weights import load_weights, save_weights

SHARED = torch.arange(6.0).reshape(2, 3)
TENSORS = {"a": SHARED, "b": SHARED.T, "count": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}


def test_both_come_back_and_the_json_beside_says_the_same(tmp_path):
    path = tmp_path / "best.safetensors"
    save_weights(path, TENSORS, {"labels": ["ä", "b"]})
    tensors, description = load_weights(path)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert description["labels"] == ["ä", "b"]
    assert json.loads((tmp_path / "best.json").read_text()) == description


def test_a_changed_weight_is_found(tmp_path):
    path = tmp_path / "best.safetensors"
    save_weights(path, TENSORS, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"best.safetensors is damaged.*digest of its header"):
        load_weights(path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"best.safetensors must be a file of save_weights, got"):
        load_weights(path)


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"must be writable, got 'No such file or directory'"):
        save_weights(tmp_path / "nowhere" / "best.safetensors", TENSORS, {})
