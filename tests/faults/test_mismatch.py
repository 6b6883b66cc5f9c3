"""R4 and R13: a checkpoint of something else is refused, each difference named; code in it never runs."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lambdanets.errors import CheckpointError
from lambdanets.training.checkpoint import load_checkpoint, save_checkpoint
from lambdanets.training.config import OptimConfig
from support.training import NUM_CLASSES, tiny_config, tiny_model, tiny_state


@pytest.fixture
def stored(tmp_path):
    config = tiny_config()
    state = tiny_state(config)
    state.step = 4
    save_checkpoint(tmp_path, 4, state.tensors(), state.record(config), keep=1)
    return load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({"recipe": "relation"}, ["recipe: digits -> relation"]),
        (
            {"optim": OptimConfig(name="adamw", learning_rate=0.01, weight_decay=1e-3)},
            ["optim.name: sgd -> adamw", "optim.learning_rate: 0.05 -> 0.01"],
        ),
        ({"seed": 3, "ema_decay": 0.5}, ["seed: 0 -> 3", "ema_decay: 0.98 -> 0.5"]),
    ],
)
def test_each_difference_is_listed_and_can_be_allowed_by_name(stored, changed, lines):
    config = replace(tiny_config(), **changed)
    state = tiny_state(config)
    names = [line.partition(":")[0] for line in lines]
    message = "was written by recipe 'digits' with other settings, old -> new:"
    with pytest.raises(CheckpointError, match=message) as raised:
        state.restore(stored, config)
    assert all(f"  {line}\n" in str(raised.value) for line in lines)
    assert str(raised.value).endswith(f"--resume-allow {' '.join(names)}")
    if len(names) > 1:
        with pytest.raises(CheckpointError, match=rf"--resume-allow {names[1]}$"):
            state.restore(stored, config, allow=names[:1])
    assert state.restore(stored, config, allow=names) == lines
    assert state.step == 4


def test_another_number_of_processes_is_a_difference(stored):
    config = tiny_config()
    with pytest.raises(
        CheckpointError, match=r"world_size: 1 -> 2\nTo go on all the same: --resume-allow world_size"
    ):
        tiny_state(config).restore(stored, config, world_size=2)
    assert tiny_state(config).restore(stored, config, world_size=2, allow=["world_size"]) == [
        "world_size: 1 -> 2"
    ]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            torch.nn.Sequential(*tiny_model()[:6], torch.nn.Linear(24, NUM_CLASSES + 1)),
            r"model\.safetensors must hold .* got 2 that differ: it needs 6\.bias \(5,\) but has \(4,\)",
        ),
        (
            torch.nn.Sequential(*tiny_model()[:6]),
            r"got 2 that differ: it needs 6\.bias nothing but has \(4,\)",
        ),
    ],
)
def test_another_network_or_other_classes_are_refused(stored, model, message):
    with pytest.raises(CheckpointError, match=message):
        tiny_state(tiny_config(), model).restore(stored, tiny_config())


class _Code:
    """What a pickle does when it is opened: makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_code_in_a_checkpoint_is_never_run(stored, tmp_path, name):
    marker = tmp_path / "code was run"
    content = pickle.dumps(_Code(marker))
    pickle.loads(content)
    assert marker.exists()
    marker.unlink()
    (stored.path / name).write_bytes(content)
    if name != "manifest.json":
        # Also where the manifest says that this is right.
        manifest = stored.path / "manifest.json"
        found = json.loads(manifest.read_text())
        found["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest.write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match="must hold a whole checkpoint"):
        load_checkpoint(tmp_path)
    assert not marker.exists()
