"""`lambdanets train`: help, refusals and exit codes, all before torch is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lambdanets.cli._options import given_settings, value_of
from lambdanets.cli.train import _changed_settings, train
from lambdanets.recipes import get_recipe, recipes_of, smoke_run
from lambdanets.training.config import TrainConfig
from support.commands import parsed, printed, refused

_NO_GPU = "lambdanets train: exec: device cuda needs a GPU for each process of a machine, got 0 for process"


@pytest.mark.parametrize("words", [("train",), ("train", "--help"), ("train", "-h")])
def test_the_recipes_are_listed(words, capsys):
    output = printed(capsys, *words)
    assert all(f"  {name} " in output for name in recipes_of(TrainConfig))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("digit",),
            "unknown recipe 'digit'. Closest: digits",
        ),
        (("--out", "x", "digits"), "recipe must come first, got '--out'"),
        (("digits", "--optim.learning-rat", "1"), "--optim.learning-rate 0<FLOAT<=1000000"),
        (("digits", "--optim.learning-rate", "fast"), "could not convert string to float: 'fast'"),
        (("digits", "--optim.learning-rate", "-1"), "learning_rate must be positive, got -1.0."),
        (("digits", "--sched.epochs", "0"), "epochs must be at least 1, got 0."),
        (("digits", "--data.name", "digit"), "got 'digit'. Closest: digits"),
        (("digits", "surplus"), "surplus"),
        (("digits", "--processes", "0"), "train: processes must be at least 1, got 0."),
        (
            ("digits", "--processes", "2", "--gpus", "3"),
            "processes and gpus must not both be given",
        ),
        (
            ("digits", "--max-restarts", "1"),
            "max_restarts must be at least 0, and 0 without",
        ),
        (("digits", "--gpus", "1", "--exec.device", "cpu"), "gpus must not be given with exec.device cpu"),
        (
            ("digits", "--augment.flip", "0.3"),
            "flip must be left at 0.5 for digits, whose images are not read from files, got 0.3.",
        ),
        (("digits", "--sched.shape", "step"), "step_epochs must be positive for step, got None."),
        (("digits", "--optim.epsilon", "0.1"), "epsilon must be none for sgd, got 0.1."),
        (
            ("imagenet-lambda-resnet50-90ep",),
            "FolderConfig: root must be given, got none. Use --data.root DIR, with the parts train and val,"
            " or with a folder for each class.",
        ),
    ],
)
def test_wrong_words_are_refused_with_a_hint(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "train", *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (
            ("--gpus", "8"),
            "lambdanets train: gpus must be left out without a GPU, got 8. --processes 8 trains on the CPU.",
            2,
        ),
        (
            ("--exec.device", "cuda"),
            f"{_NO_GPU} 1. Start fewer processes, or use the device cpu.",
            3,
        ),
        (
            ("--exec.device", "cuda", "--processes", "3"),
            f"{_NO_GPU} 3. Start fewer processes, or use the device cpu.",
            3,
        ),
    ],
)
def test_gpus_that_are_not_there_are_one_sentence_and_no_folder(
    words, message, code, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, "train", "digits", *words, code=code) == message
    assert not list(tmp_path.iterdir())


def test_more_gpus_than_there_are(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = refused(capsys, "train", "digits", "--gpus", "3")
    assert "gpus must be at most 2, as many as this machine has, got 3." in message


def test_a_dry_run_plans_for_gpus_of_another_machine(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    text = " ".join(printed(capsys, "train", "digits", "--gpus", "8", "--dry-run").split())
    assert "8 processes × 8 images in 1 part of at most 8: batch norm sees 8;" in text
    assert "; planned for 8 GPUs, this machine has none" in text


def test_an_unwritable_folder_is_exit_7(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "train", "digits", "--out", tmp_path / "file" / "run", code=7)
    assert "must be writable, got 'Not a directory'" in message


def test_an_unknown_model_is_exit_2_and_the_folder_stays_free(tmp_path, capsys):
    for name in ("lambda_resnet_digit", "resnet_digit"):
        message = refused(capsys, "train", "digits", "--out", tmp_path, "--model.name", name)
        assert f"{name}s" in message


def test_overrides_are_merged_over_the_recipes():
    config = parsed(train, "digits", "--model.overrides", "num_heads", "2", "layers", "LLCC")["config"]
    assert config.model.overrides == {
        **get_recipe("digits").model.overrides,
        "num_heads": 2,
        "layers": "LLCC",
    }
    config = parsed(train, "imagenet-mobilenetv2", "--model.overrides", "image_size", "96")["config"]
    assert config.model.overrides == {"image_size": 96, "dropout": 0.2}
    assert parsed(train, "semi")["config"] == get_recipe("semi")


def test_fast_is_part_of_the_config_and_single_settings_still_count():
    config = parsed(train, "digits", "--fast", "--seed", "3")["config"]
    smoke = smoke_run(get_recipe("digits"))
    assert config.fast and config.sched == smoke.sched and config.seed == 3
    assert parsed(train, "digits", "--fast", "--sched.epochs", "2")["config"].sched.epochs == 2


def test_each_changed_value_says_where_it_comes_from():
    config = parsed(train, "digits", "--fast", "--optim.learning-rate", "0.7")["config"]
    text = _changed_settings(config, {"fast", "optim.learning_rate"}, Path("x"))
    recipe = get_recipe("digits")
    assert f"optim.learning_rate {recipe.optim.learning_rate} -> 0.7 (command line)" in text
    assert f"sched.epochs {recipe.sched.epochs} -> {smoke_run(recipe).sched.epochs} (--fast)" in text
    assert "changed" not in _changed_settings(recipe, (), Path("x"))


def test_options_that_are_given_are_found_however_they_are_spelled():
    config = get_recipe("digits")
    words = [
        "--optim.learning_rate=0.1",
        "--exec.compile",
        "--sched.epochs",
        "3",
        "--gpus",
        "2",
        "--init",
        "run",
    ]
    assert given_settings(config, words) == {
        *("optim.learning_rate", "exec.compile", "sched.epochs", "exec.device", "init"),
        *("model.name", "model.overrides"),
    }
    assert value_of("--optim.learning-rate", words) == "0.1"


def test_a_missing_library_names_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    for module in ("lambdanets.cli.train", "lambdanets.cli._options"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    message = refused(capsys, "train", "digits", code=3)
    assert message == "lambdanets train: tyro must be installed, got none. pip install tyro."


def test_help_and_refusals_leave_torch_alone(tmp_path):
    for words in (
        ["train", "digits", "--help"],
        ["train", "digit"],
        ["train", "digits", "--optim.momentum", "2"],
        ["train", "imagenet-mobilenetv2"],
        ["recipes"],
        ["slurm", "digits", "--nodes", "1", "--gpus-per-node", "2"],
    ):
        code = f"import sys\nfrom lambdanets.cli import run\nrun({words!r})\nsys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
