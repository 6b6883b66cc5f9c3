"""Trained networks loaded from runs, checkpoints and files, with what is known of them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lambdanets.data.preprocessing import Foreground, Preprocessing
from lambdanets.errors import ArgumentError, CheckpointError, PathError
from lambdanets.models import create_model
from lambdanets.recipes import get_recipe
from lambdanets.runs.load import RANDOM, load_named, load_run
from lambdanets.training.checkpoint import save_checkpoint
from lambdanets.training.weights import state_digest
from support.runs import METRIC, write_run

GOLDEN_DIGIT = Path(__file__).parents[1] / "golden" / "digit.png"
DIGITS = Preprocessing(size=8, mean=(0.3059,), std=(0.3755,), foreground=Foreground())


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run whose three sets of weights differ in their biases: best 0, ema 3, raw 2."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    config = get_recipe("digits-conv")
    state = write_run(path, config)
    state.step = 7
    state.model.classifier.bias.data.fill_(2)
    state.ema.module.classifier.bias.data.fill_(3)
    save_checkpoint(path / "checkpoints", 7, state.tensors(), state.record(config), keep=2)
    return path


@pytest.fixture
def run(stored, tmp_path):
    """A copy to damage."""
    return shutil.copytree(stored, tmp_path / "run")


CHECKPOINT = "checkpoints/step-00000007"


@pytest.mark.parametrize(
    ("place", "weights", "file", "bias"),
    [
        ("", "best", "best.safetensors", 0),
        ("best.safetensors", "best", "best.safetensors", 0),
        ("", "ema", f"{CHECKPOINT}/ema.safetensors", 3),
        ("", "raw", f"{CHECKPOINT}/model.safetensors", 2),
        (CHECKPOINT, "best", f"{CHECKPOINT}/ema.safetensors", 3),
        (CHECKPOINT, "raw", f"{CHECKPOINT}/model.safetensors", 2),
        (f"{CHECKPOINT}/ema.safetensors", "best", f"{CHECKPOINT}/ema.safetensors", 3),
        (f"{CHECKPOINT}/model.safetensors", "best", f"{CHECKPOINT}/model.safetensors", 2),
    ],
)
def test_every_place_gives_its_weights_and_all_that_is_known(stored, place, weights, file, bias):
    loaded = load_run(stored / place, weights)
    tensors = load_file(stored / file)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded.model.state_dict().items())
    assert set(tensors["classifier.bias"].tolist()) == {bias}
    assert not loaded.model.training
    assert loaded.labels == tuple("0123456789") and loaded.preprocessing == DIGITS
    origin = loaded.origin
    assert (origin.source, origin.sha256) == (str(stored / file), state_digest(tensors))
    assert (origin.recipe, origin.model) == ("digits-conv", "resnet_digits")
    assert (origin.epoch, origin.step, origin.warnings) == (2, 7, ())
    # Training evaluates the EMA weights, not the optimizer's own.
    assert origin.metric == (None if bias == 2 else METRIC)


def test_a_file_of_tensors_alone_is_described_by_what_stands_beside_it(stored, tmp_path):
    tensors = load_file(stored / "best.safetensors")
    tensors["classifier.bias"] += 1
    save_file(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(
        PathError, match=r"mine\.safetensors must describe its model in its metadata, or stand"
    ):
        load_run(tmp_path / "mine.safetensors")
    shutil.copy(stored / "config.json", tmp_path)
    loaded = load_run(str(tmp_path / "mine.safetensors"))
    assert loaded.labels is None and loaded.preprocessing is None
    assert (loaded.model.config.num_classes, loaded.model.config.in_channels) == (10, 1)
    assert (loaded.origin.recipe, loaded.origin.metric) == ("digits-conv", None)
    shutil.copy(stored / "best.json", tmp_path)
    loaded = load_run(tmp_path / "mine.safetensors")
    assert loaded.labels == tuple("0123456789")
    # The metric in best.json is that of other weights.
    assert (loaded.origin.epoch, loaded.origin.metric) == (None, None)
    save_file(load_file(stored / "best.safetensors"), tmp_path / "mine.safetensors")
    assert load_run(tmp_path / "mine.safetensors").origin.metric == METRIC


def test_a_damaged_checkpoint_is_skipped_with_a_warning(run):
    shutil.copytree(run / CHECKPOINT, run / "checkpoints/step-00000009")
    (run / "checkpoints/step-00000009/ema.safetensors").write_bytes(b"")
    origin = load_run(run, "ema").origin
    assert origin.step == 7 and len(origin.warnings) == 1
    assert "step-00000009 is damaged: ema.safetensors has 0 bytes" in origin.warnings[0]
    message = r"read_checkpoint: .*step-00000009 is damaged: ema\.safetensors has 0 bytes instead of \d+\."
    with pytest.raises(CheckpointError, match=message):
        load_run(run / "checkpoints/step-00000009")


def test_what_is_not_there_is_named(run, tmp_path, unchecked):
    with pytest.raises(
        ArgumentError, match="load_run: weights must be one of 'best', 'ema', 'raw', got 'last'"
    ):
        load_run(run, "last")
    with pytest.raises(PathError, match=r"nowhere must be a folder of `lambdanets train` with config\.json"):
        load_run(tmp_path / "nowhere")
    (run / "best.safetensors").unlink()
    with pytest.raises(
        PathError, match=r"load_run: .* must hold best\.safetensors, got none\. It comes with"
    ):
        load_run(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(PathError, match=r"load_run: .* must hold a checkpoint for weights 'raw', got none\."):
        load_run(run, "raw")
    folder = save_checkpoint(run / "checkpoints", 3, {"model": {}}, {"step": 3}, keep=1)
    with pytest.raises(
        CheckpointError, match=r"load_run: .*step-00000003 must hold ema\.safetensors, got none"
    ):
        load_run(folder)


def test_damage_is_told_from_weights_of_another_model(run):
    data = bytearray((run / "best.safetensors").read_bytes())
    data[-5] ^= 8
    (run / "best.safetensors").write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"best\.safetensors is damaged: its weights do not have the digest"
    ):
        load_run(run)
    save_file({"a": torch.ones(2)}, run / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors must hold the weights of this model, got"):
        load_run(run / "other.safetensors")
    (run / "best.json").write_text('{"labels": []}')
    with pytest.raises(
        CheckpointError, match=r"load_run: .*best\.json must describe a model, got no model\."
    ):
        load_run(run / "other.safetensors")


def test_weights_of_another_network_are_named_with_what_to_type(run):
    config = json.loads((run / "config.json").read_text())
    config["model"] = {"name": "lambda_resnet_digits", "overrides": {"query_depth": 4}}
    (run / "config.json").write_text(json.dumps(config))
    for weights, file in (("best", "best"), ("ema", "ema"), ("raw", "model")):
        with pytest.raises(
            CheckpointError,
            match=rf"{file}\.safetensors must hold weights of lambda_resnet_digits with query_depth 4, as"
            r" .*config\.json says, got those of resnet_digits\. Other weights of the run may do: --weights",
        ):
            load_run(run, weights)


def test_weights_that_say_nothing_are_compared_with_the_network(run):
    save_file({"a": torch.ones(2)}, run / "best.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"best\.safetensors must hold the weights of this model.* --weights best, ema or raw",
    ):
        load_run(run)


def test_a_file_is_read_and_classified(stored):
    loaded = load_run(stored)
    pixels, inverted = loaded.read(GOLDEN_DIGIT)
    assert torch.equal(pixels, DIGITS.read(GOLDEN_DIGIT)[0]) and isinstance(inverted, bool)
    assert loaded.predict(str(GOLDEN_DIGIT), 3) == loaded.classify(pixels, 3)
    drawn = replace(loaded, preprocessing=None)
    message = (
        r"^predict: run must be one that files can be given to, got .*best\.safetensors, whose images are"
    )
    with pytest.raises(ArgumentError, match=message):
        drawn.predict(GOLDEN_DIGIT)


def test_the_most_likely_classes_come_first(stored):
    loaded = load_run(stored)
    pixels = torch.randn(1, 8, 8)
    expected = loaded.model(pixels[None])[0].exp() / loaded.model(pixels[None])[0].exp().sum()
    found = loaded.classify(pixels, 3)
    assert [label for label, _ in found] == [str(int(i)) for i in expected.argsort(descending=True)[:3]]
    assert [probability for _, probability in found] == pytest.approx(
        expected.sort(descending=True)[0][:3].tolist()
    )
    assert len(replace(loaded, labels=None).classify(pixels, 20)) == 10


def test_a_model_by_name_takes_the_sizes_of_its_weights(tmp_path):
    model = create_model("lambda_resnet_digits", num_classes=5, in_channels=1)
    save_file(model.state_dict(), tmp_path / "grey.safetensors")
    loaded = load_named("lambda_resnet_digits", tmp_path / "grey.safetensors")
    assert (loaded.model.config.num_classes, loaded.model.config.in_channels) == (5, 1)
    assert all(
        torch.equal(tensor, loaded.model.state_dict()[name]) for name, tensor in model.state_dict().items()
    )
    assert (loaded.preprocessing.size, loaded.preprocessing.channels) == (8, 1) and loaded.labels is None
    assert loaded.origin.source == str(tmp_path / "grey.safetensors") and not loaded.model.training
    with pytest.raises(PathError, match=r"^weights must be a file, got .*none, which does not exist\."):
        load_named("lambda_resnet_digits", tmp_path / "none")


def test_random_weights_are_always_the_same_and_leave_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (load_named("lambda_resnet_digits").origin for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert first == second and first.source == RANDOM == "random weights (seed 0)"


# What the extras install, but safetensors.
EXTRAS = ("numpy", "PIL", "tyro", "rich", "torchvision", "timm", "sklearn", "matplotlib", "triton")


def test_torch_and_safetensors_are_enough(stored):
    code = f"""
import sys
# As if they were not installed.
sys.modules.update(dict.fromkeys({EXTRAS}))
import torch
import lambdanets
for weights in ("best", "raw"):
    loaded = lambdanets.load_run({str(stored)!r}, weights)
    assert loaded.labels == tuple("0123456789") and loaded.preprocessing.size == 8
    assert len(loaded.classify(torch.zeros(1, 8, 8))) == 5
print(loaded.origin.sha256)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == load_run(stored, "raw").origin.sha256


def test_a_run_with_layers_of_ones_own_is_loaded_by_their_names(tmp_path):
    """From the run folder and from its file of weights, whose description names them too."""
    recipe = get_recipe("digits")
    overrides = {"layers": "LLAA", "mixer": "support.own_layers:depthwise", "query_depth": 8}
    overrides["key_normalization"] = "support.own_layers:Scaled"
    config = replace(recipe, model=replace(recipe.model, overrides=overrides))
    write_run(tmp_path / "run", config)
    for place in ("run", "run/best.safetensors"):
        model = load_run(tmp_path / place).model
        assert model.c4[0].mixer.groups == 32
        assert type(model.c2[0].mixer.key_normalization).__name__ == "Scaled"
        assert "c2.0.mixer.key_normalization.scale.weight" in model.state_dict()


def test_a_run_whose_layers_are_gone_says_where_they_were(tmp_path, monkeypatch):
    recipe = get_recipe("digits")
    overrides = {"layers": "LLAA", "mixer": "support.own_layers:depthwise"}
    write_run(tmp_path, replace(recipe, model=replace(recipe.model, overrides=overrides)))
    monkeypatch.delattr("support.own_layers.depthwise")
    message = "mixer must name what support.own_layers has, got 'support.own_layers:depthwise'"
    with pytest.raises((ArgumentError, CheckpointError), match=message):
        load_run(tmp_path)
