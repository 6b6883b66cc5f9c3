"""What a run keeps and prints after an epoch: the better of EMA and raw weights, and both accuracies."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lambdanets.recipes import get_recipe
from lambdanets.runs.load import load_run
from lambdanets.runs.recorder import Recorder
from lambdanets.runs.tasks import load_task, make_job
from lambdanets.runs.train import first_state
from lambdanets.training.checkpoint import save_checkpoint
from lambdanets.training.distributed import ALONE
from lambdanets.training.run_folder import RunFolder, headline

BEST = {"epoch": 3, "step": 7, "test_accuracy": 0.972, "test_correct": 486, "test_total": 500}
RECORD = {
    **{"epoch": 3, "step": 7, "train_loss": 0.4125, "test_loss": 0.3, "test_accuracy": 0.931},
    **{"test_correct": 465, "test_total": 500, "test_top5_correct": 499, "raw_test_loss": 0.2},
    **{"raw_test_accuracy": 0.972, "raw_test_correct": 486, "raw_test_top5_correct": 500},
}


class Lines:
    """Takes the place of the progress of a run."""

    def __init__(self):
        self.printed = []

    def print(self, text):
        self.printed.append(text)

    def time_left(self):
        return "12 s left"


@pytest.fixture(scope="module")
def job():
    config = get_recipe("digits-conv")
    return config, make_job(config, load_task(config))


def _recorded(path, job, record=RECORD, test_name="test", **best):
    """A folder after an epoch; the EMA has the bias 3, the raw weights 2. Gives the printed lines."""
    config, made = job
    with RunFolder(path).locked(config) as folder:
        state = first_state(config, made)
        state.step, state.best = 7, {**BEST, **best}
        state.model.classifier.bias.data.fill_(2)
        state.ema.module.classifier.bias.data.fill_(3)
        recorder = Recorder(config, folder, replace(made, test_name=test_name), ALONE)
        recorder._progress = Lines()
        recorder.on_epoch_end(state, record)
        save_checkpoint(folder.checkpoints, 7, state.tensors(), state.record(config), keep=2)
    return recorder._progress.printed


@pytest.mark.parametrize(
    ("best", "bias", "words"),
    [({"weights": "raw"}, 2, "raw"), ({"weights": "ema"}, 3, "moving average"), ({}, 3, "moving average")],
)
def test_the_better_weights_are_kept_and_say_which_they_are(tmp_path, job, best, bias, words):
    _recorded(tmp_path, job, **best)
    described = json.loads((tmp_path / "best.json").read_text())
    assert described["weights"] == words and described["metric"] == {**BEST, **best}
    loaded = load_run(tmp_path)
    assert set(loaded.model.state_dict()["classifier.bias"].tolist()) == {bias}
    assert loaded.origin.is_ema == (bias == 3) and loaded.origin.metric == described["metric"]


def test_each_of_the_two_is_loaded_with_its_own_numbers(tmp_path, job):
    _recorded(tmp_path, job, weights="raw")
    raw, ema = load_run(tmp_path, "raw").origin, load_run(tmp_path, "ema").origin
    assert (raw.is_ema, raw.metric["test_correct"], raw.metric["test_loss"]) == (False, 486, 0.2)
    assert (ema.is_ema, ema.metric["test_correct"], ema.metric["test_loss"]) == (True, 465, 0.3)
    assert raw.epoch == ema.epoch == 3


def test_weights_without_a_word_of_the_average_are_not_said_to_be_one(tmp_path, job):
    _recorded(tmp_path, job, weights="raw")
    described = json.loads((tmp_path / "best.json").read_text())
    del described["weights"], described["sha256"], described["record_sha256"]
    torch_only = tmp_path / "other" / "mine.safetensors"
    torch_only.parent.mkdir()
    save_file(load_file(tmp_path / "best.safetensors"), torch_only)
    torch_only.with_name("best.json").write_text(json.dumps(described))
    assert load_run(torch_only).origin.is_ema is None


def test_an_epoch_is_a_line_with_both_in_columns(tmp_path, job):
    full = {**RECORD, "epoch": 25, "raw_test_accuracy": 1.0, "test_accuracy": 0.05}
    assert _recorded(tmp_path / "a", job, test_name="validation") == [
        "epoch   3 of 25 · loss 0.412 · validation EMA  93.10% · raw  97.20% of 500 · 12 s left"
    ]
    assert _recorded(tmp_path / "b", job, full) == [
        "epoch  25 of 25 · loss 0.412 · test EMA   5.00% · raw 100.00% of 500 · 12 s left"
    ]


def test_a_record_of_an_earlier_version_has_one_number(tmp_path):
    old = {name: value for name, value in RECORD.items() if not name.startswith("raw_")}
    assert headline(old) == "93.10% (465 of 500)"
    config = get_recipe("digits")
    with RunFolder(tmp_path).locked(config) as folder:
        folder.report.write_text("")
        folder.append_metrics({**RECORD, "epoch": config.sched.epochs})
        assert folder.finished(config).startswith(
            f"{tmp_path} is already finished: EMA 93.10% · raw 97.20% of 500 after epoch 25."
        )


def test_the_raw_model_is_what_is_trained(job):
    config, made = job
    state = first_state(config, made)
    assert state.trained_model("raw") is state.model and state.trained_model("ema") is state.ema.module
    assert torch.equal(state.model.classifier.bias, state.ema.module.classifier.bias)
