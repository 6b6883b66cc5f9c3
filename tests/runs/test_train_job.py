"""The training job in this process: what it leaves, and going on."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lambdanets.errors import CheckpointError, StoppedError
from lambdanets.recipes import get_recipe
from lambdanets.runs import train as module
from lambdanets.runs.compare import summarize
from lambdanets.runs.evaluate import evaluate_run
from lambdanets.runs.load import load_run
from lambdanets.runs.report import _learned_tables
from lambdanets.runs.tasks import load_task, make_job
from lambdanets.runs.train import first_state, train
from lambdanets.training.config import CkptConfig, RunConfig, SchedConfig
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.weights import load_weights, save_weights
from support.runs import assert_same_run, records

pytestmark = pytest.mark.usefixtures("few_digits")


def _config(name="digits", **changes):
    short = SchedConfig(epochs=2, warmup_epochs=1.0)
    recipe = get_recipe(name, RunConfig)
    # One lambda layer is enough here, and quicker.
    model = replace(recipe.model, overrides={**recipe.model.overrides, "layers": "CCCL"})
    config = replace(
        recipe,
        num_threads=1,
        global_batch_size=64,
        model=model if name == "digits" else recipe.model,
        sched=short,
        ckpt=CkptConfig(every_epochs=1, keep=2),
    )
    return replace(config, **changes)


def _train(path, config):
    with RunFolder(path).locked(config) as folder:
        train(config, folder, command=f"lambdanets train {config.recipe}")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("runs") / "digits", _config())


def test_the_run_folder_is_complete(finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        *(".lock", "config.json", "metrics.jsonl", "train.log", "report.md", "curves.png", "confusion.png"),
        *("lambdas.png", "confusion.json", "checkpoints", "best.safetensors", "best.json"),
    }
    assert [path.name for path in sorted((finished / "checkpoints").iterdir())] == [
        "step-00000003",
        "step-00000006",
    ]
    for name in ("curves.png", "confusion.png", "lambdas.png"):
        with Image.open(finished / name) as image:
            assert min(image.size) > 150


def test_the_report_says_what_was_found(finished):
    page = (finished / "report.md").read_text()
    last = records(finished)[-1]
    for words in (
        f"| accuracy | {last['test_accuracy']:.2%}, {last['test_correct']} of 60 test images, after",
        f"| raw weights | {last['raw_test_accuracy']:.2%}, {last['raw_test_correct']} of 60, ",
        "chosen on the same 60 test images, so optimistic |",
        "none: sched.epochs, sched.warmup_epochs, model.overrides.layers differ from the recipe |",
        "| restarts | 0 |",
        "| warnings | 1, below |",
        "Warnings:\n\n```\nthe run is shorter than three half-lives of the EMA. --ema-decay None derives a"
        " decay from the 6 steps: 0\n```",
        "| top-5 | ",
        "By class:\n\n| class | images | correct | recall | predicted as |\n|---|---|---|---|---|\n| 0 | ",
        "| unreadable files | none |",
        "```\nlambdanets train digits\n```",
        "![lambdas](lambdas.png)",
    ):
        assert words in page


def test_the_kept_weights_describe_themselves(finished):
    described = json.loads((finished / "best.json").read_text())
    assert described["recipe"] == "digits"
    assert described["labels"] == [str(digit) for digit in range(10)]
    assert described["model"]["name"] == "lambda_resnet_digits" and described["model"]["num_classes"] == 10
    trained = load_run(finished)
    assert described["preprocessing"] == json.loads(json.dumps(trained.preprocessing.to_dict()))
    assert not trained.model.training
    assert described["parameters"] == sum(p.numel() for p in trained.model.parameters())


def test_an_evaluation_finds_what_training_recorded(finished):
    found = evaluate_run(finished)
    best = json.loads((finished / "best.json").read_text())["metric"]
    assert (found.evaluation.correct, found.evaluation.total) == (best["test_correct"], 60)
    assert found.origin.is_ema == (best["weights"] == "ema")
    rows = found.per_class()
    assert sum(row.correct for row in rows) == best["test_correct"]
    assert all(sum(row.taken_for.values()) == row.total - row.correct for row in rows)


def test_a_summary_reads_the_folder(finished):
    summary = summarize(finished)
    last = records(finished)[-1]
    assert (summary.correct, summary.total, summary.epochs) == (last["test_correct"], 60, (2, 2))
    assert summary.images_per_s == pytest.approx(2 * 192 / summary.seconds)


@pytest.mark.usefixtures("no_figures")
def test_stopped_within_an_epoch_and_continued(tmp_path, finished, monkeypatch, capsys):
    class StopAfterFour(module.StopRequest):
        asked = 0

        def __call__(self):
            self.asked += 1
            return self.asked > 4

    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="stopped at step 4 of 6"):
        patch.setattr(module, "StopRequest", StopAfterFour)
        _train(tmp_path, _config())
    assert len(records(tmp_path)) == 1
    torch.manual_seed(1234)
    _train(tmp_path, _config())
    assert (
        f"continuing from step 4 ({tmp_path}/checkpoints/step-00000004), session 2" in capsys.readouterr().out
    )
    assert "| restarts | 1 |" in (tmp_path / "report.md").read_text()
    assert_same_run(tmp_path, finished)


@pytest.mark.usefixtures("no_figures")
def test_damage_costs_one_interval_and_is_told(tmp_path, finished, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "report.md").unlink()
    (tmp_path / "checkpoints" / "step-00000006" / "ema.safetensors").write_bytes(b"")
    _train(tmp_path, _config())
    output = capsys.readouterr().out
    assert "step-00000006 is damaged: ema.safetensors has 0 bytes instead of" in output
    assert "continuing from step 3" in output
    assert "ema.safetensors has 0 bytes" in (tmp_path / "report.md").read_text()
    assert_same_run(tmp_path, finished)


def test_weights_of_another_model_are_refused(tmp_path, finished):
    tensors, description = load_weights(finished / "best.safetensors")
    (tmp_path / "config.json").write_text((finished / "config.json").read_text())
    other = {**description, "labels": description["labels"][:7]}
    save_weights(tmp_path / "best.safetensors", tensors, other)
    with pytest.raises(CheckpointError, match="must have num_classes 10, as its weights have, got 7 in its"):
        load_run(tmp_path)


def test_tables_are_those_of_the_lambda_layers():
    config = _config()
    tables = _learned_tables(first_state(config, make_job(config, load_task(config))).model)
    assert len(tables) == 1
    assert all(name.endswith("mixer") and table.ndim == 4 for name, table in tables.items())
    twin = _config("digits-conv")
    assert _learned_tables(first_state(twin, make_job(twin, load_task(twin))).model) == {}
