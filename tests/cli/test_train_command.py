"""`lambdanets train`: help, refusals and exit codes, all before torch is loaded."""

import subprocess
import sys

import pytest

from lambdanets.cli import run
from lambdanets.cli.train import parse, resolved
from lambdanets.recipes import RECIPES, get_recipe, smoke_run

OPTIONS = {
    *(
        "--out",
        "--dry-run",
        "--seed",
        "--num-threads",
        "--fast",
        "--global-batch-size",
        "--label-smoothing",
        "--ema-decay",
    ),
    *("--processes", "--gpus", "--max-restarts", "--resume-allow", "--tensorboard"),
    *("--model.name", "--model.overrides"),
    *("--augment.min-crop-area", "--augment.flip", "--augment.mixup", "--augment.cutmix"),
    *("--augment.randaugment-layers", "--augment.randaugment-magnitude"),
    *("--pseudo.labels", "--pseudo.ratio"),
    *("--optim.name", "--optim.learning-rate", "--optim.base-batch-size", "--optim.momentum"),
    *("--optim.beta2", "--optim.epsilon", "--optim.weight-decay", "--optim.clip-grad-norm"),
    *("--sched.epochs", "--sched.warmup-epochs", "--sched.shape"),
    *("--sched.step-epochs", "--sched.step-factor"),
    *("--ckpt.every-epochs", "--ckpt.every-minutes", "--ckpt.keep", "--ckpt.tolerate-failures"),
    *("--exec.device", "--exec.precision", "--exec.accumulation", "--exec.num-workers"),
    *("--exec.channels-last", "--exec.compile", "--exec.gradient-checkpointing"),
    *("--exec.sync-batch-norm", "--exec.parallel", "--exec.deterministic", "--exec.timeout-s"),
    *("--faults.nonfinite", "--faults.max-nonfinite"),
    *("--faults.max-unreadable-fraction", "--faults.max-unreadable-in-a-row"),
}


_SIZES = {"--data.image-size", "--data.test-image-size"}
_MOTION = {"--data.max-shift", "--data.max-rotation", "--data.max-scaling"}
_FILES = {"--data.root", "--data.train", "--data.test", "--data.holdout", *_SIZES}
DATA_OPTIONS = {
    "digits": _MOTION,
    "semi": _MOTION,
    "relation": set(),
    "pathfinder": {"--data.path-length", "--data.distractors", *_SIZES},
    "folder": {"--data.train-labels", "--data.test-labels", *_FILES},
    "shards": _FILES,
    "huggingface": _FILES,
    "digit-images": _SIZES,
}


def _exit_code(*words):
    try:
        return run(words)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("words", [("train",), ("train", "--help"), ("train", "-h")])
def test_the_recipes_are_listed(words, capsys):
    assert _exit_code(*words) == 0
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in RECIPES)


@pytest.mark.parametrize("data", DATA_OPTIONS)
def test_the_options_of_a_recipe_are_frozen(data, capsys):
    assert _exit_code("train", "digits", "--data.name", data, "--help") == 0
    output = capsys.readouterr().out
    words = {word.strip("│,") for word in output.split()}
    assert {word for word in words if word.strip("-") and word.startswith("--")} - {"--help"} == {
        "--data.name",
        *OPTIONS,
        *DATA_OPTIONS[data],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("digit",),
            "unknown recipe 'digit'. Closest: digits",
        ),
        (("--out", "x", "digits"), "recipe must come first, got '--out'"),
        (("digits", "--optim.learning-rat", "1"), "--optim.learning-rate FLOAT"),
        (("digits", "--optim.learning-rate", "fast"), "could not convert string to float: 'fast'"),
        (("digits", "--optim.learning-rate", "-1"), "learning_rate must be positive and finite, got -1.0."),
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
            "FolderConfig: root must be given, got none. Use --data.root DIR, with the parts train and val.",
        ),
    ],
)
def test_wrong_words_are_refused_with_a_hint(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _exit_code("train", *words) == 2
    # Tyro draws a box around its messages and folds them.
    output = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in output
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_exit_7(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert _exit_code("train", "digits", "--out", str(tmp_path / "file" / "run")) == 7
    assert "must be writable, got 'Not a directory'" in capsys.readouterr().err


def test_an_unknown_model_is_exit_2_and_the_folder_stays_free(tmp_path, capsys):
    words = ("train", "digits", "--out", str(tmp_path), "--model.name", "lambda_resnet_digit")
    assert _exit_code(*words) == 2
    assert "lambda_resnet_digits" in capsys.readouterr().err
    assert _exit_code("train", "digits", "--out", str(tmp_path), "--model.name", "resnet_digit") == 2


def test_default_folder_and_overrides():
    options = parse(["digits", "--model.overrides", "num_heads", "2", "layers", "LLCC"])
    assert str(options.out) == "runs/digits"
    expected = {**get_recipe("digits").model.overrides, "num_heads": 2, "layers": "LLCC"}
    assert options.config.model.overrides == expected


def test_fast_is_part_of_the_config_and_single_settings_still_count():
    config = parse(["digits", "--fast", "--seed", "3"]).config
    smoke = smoke_run(get_recipe("digits"))
    assert config.fast and config.sched == smoke.sched and config.seed == 3
    assert parse(["digits", "--fast", "--sched.epochs", "2"]).config.sched.epochs == 2


def test_each_changed_value_says_where_it_comes_from():
    words = ["digits", "--fast", "--optim.learning-rate", "0.7"]
    text = resolved(parse(words), fast=True)
    recipe = get_recipe("digits")
    assert f"optim.learning_rate {recipe.optim.learning_rate} -> 0.7 (command line)" in text
    assert f"sched.epochs {recipe.sched.epochs} -> {smoke_run(recipe).sched.epochs} (--fast)" in text
    assert "changed" not in resolved(parse(["digits"]), fast=False)


def test_a_missing_library_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    for module in [name for name in sys.modules if name.startswith("lambdanets.cli.train")]:
        monkeypatch.delitem(sys.modules, module)
    assert _exit_code("train", "digits") == 3
    assert "tyro must be installed. pip install 'lambdanets[train]'." in capsys.readouterr().err


def test_help_and_refusals_leave_torch_alone(tmp_path):
    for words in (
        ["train", "digits", "--help"],
        ["train", "digit"],
        ["train", "digits", "--optim.momentum", "2"],
        ["train", "imagenet-mobilenetv2"],
        ["recipes"],
        ["recipes", "slurm", "digits", "--nodes", "1", "--gpus-per-node", "2"],
    ):
        code = (
            "import sys\nfrom lambdanets.cli import run\n"
            f"try: run({words!r})\nexcept SystemExit: pass\n"
            "sys.exit('torch' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
