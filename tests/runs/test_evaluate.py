"""Evaluation of runs: which weights, which images, by how many processes, and the table that is kept."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import torch

from lambdanets.cli import run
from lambdanets.data.config import DigitImagesConfig
from lambdanets.data.digits import normalize
from lambdanets.errors import ArgumentError, DataError, DependencyError, PathError, StorageError
from lambdanets.recipes import get_recipe
from lambdanets.runs import evaluate as module
from lambdanets.runs.eval_table import _COLUMNS, _append_row, _check_table, evaluate_runs
from lambdanets.runs.evaluate import EvalSettings, evaluate_run
from lambdanets.runs.tasks import load_task, make_model
from lambdanets.training.checkpoint import load_checkpoint
from lambdanets.training.config import SchedConfig, TrainConfig
from lambdanets.training.loader import TEST_BATCH
from lambdanets.training.run_folder import RunFolder
from support.runs import train_run
from support.together import run_together

pytestmark = pytest.mark.usefixtures("few_digits")

NUM = 60


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = replace(get_recipe("digits-conv"), num_threads=1, sched=SchedConfig(epochs=3, warmup_epochs=1.0))
    return train_run(tmp_path_factory.mktemp("runs") / "twin", config)


def _logits(trained, name):
    """What the network of the last checkpoint says of the test images, without the code under test."""
    config = RunFolder(trained).read_config(TrainConfig)
    task = load_task(config)
    model = make_model(config.model, task).eval()
    model.load_state_dict(load_checkpoint(trained / "checkpoints").tensors[name])
    with torch.inference_mode():
        return model(normalize(task.test.images)), task.test.labels


@pytest.mark.parametrize(("weights", "name"), [("ema", "ema"), ("raw", "model")])
def test_weights_of_the_last_checkpoint(trained, weights, name):
    found = evaluate_run(trained, EvalSettings(weights=weights))
    logits, labels = _logits(trained, name)
    assert found.evaluation.correct == int((logits.argmax(dim=1) == labels).sum())
    # Of equal logits the lower class comes first.
    ranking = logits.argsort(dim=1, descending=True, stable=True)
    assert found.evaluation.top5_correct == int((ranking[:, :5] == labels[:, None]).sum())
    assert found.evaluation.loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5
    )
    assert (found.origin.epoch, found.origin.step, found.image_size) == (3, 9, (8, 8))
    assert found.origin.source == str(trained / f"checkpoints/step-00000009/{name}.safetensors")


def test_the_average_and_the_network_itself_differ(trained):
    losses = {
        name: evaluate_run(trained, EvalSettings(weights=name)).evaluation.loss
        for name in ("best", "ema", "raw")
    }
    last = RunFolder(trained).read_metrics()[-1]
    assert losses["ema"] == pytest.approx(last["test_loss"], rel=1e-5)
    assert losses["raw"] != pytest.approx(losses["ema"], rel=1e-3)


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_judged(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    source = tmp_path / "checkpoints" / "step-00000009"
    shutil.copytree(source, source.with_name("step-00000099"))
    (source.with_name("step-00000099") / "ema.safetensors").write_bytes(b"")
    found = evaluate_run(tmp_path, EvalSettings(weights="ema"))
    assert found.origin.step == 9 and "step-00000099 is damaged" in found.origin.warnings[0]


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_processes_find_together_what_one_finds(trained, tmp_path, num_processes):
    real = tmp_path / "real.json"
    real.write_text(json.dumps([[i % 10, (i + 1) % 10][: i % 3] for i in range(NUM)]))
    settings = EvalSettings(real=real, batch=7)
    alone = evaluate_run(trained, settings)
    parts = [lambda ctx: evaluate_run(trained, settings, ctx=ctx)] * num_processes
    for found in run_together(parts):
        assert torch.equal(found.evaluation.confusion, alone.evaluation.confusion)
        assert found.evaluation.top5_correct == alone.evaluation.top5_correct
        assert found.evaluation.real_correct == alone.evaluation.real_correct
        assert found.evaluation.real_total == 40
        assert found.evaluation.loss == pytest.approx(alone.evaluation.loss, rel=1e-6)


def test_a_process_that_cannot_load_the_run_ends_all(trained, tmp_path):
    parts = [lambda ctx, path=path: evaluate_run(path, ctx=ctx) for path in (trained, tmp_path)]
    waiting, failed = run_together(parts)
    assert isinstance(failed, PathError)
    assert "eval: every process must load the run, got an error in another one" in str(waiting)


def test_real_labels_are_counted_by_hand(trained, tmp_path):
    sets = [[i % 10, (i + 3) % 10][: i % 3] for i in range(NUM)]
    (tmp_path / "real.json").write_text(json.dumps(sets))
    found = evaluate_run(trained, EvalSettings(weights="ema", real=tmp_path / "real.json")).evaluation
    predictions = _logits(trained, "ema")[0].argmax(dim=1).tolist()
    hits = sum(prediction in allowed for prediction, allowed in zip(predictions, sets, strict=True))
    assert (found.real_correct, found.real_total) == (hits, sum(map(bool, sets)))
    assert found.real_accuracy == hits / found.real_total


class Damaged:
    """The digits, of which some cannot be read."""

    def __init__(self, test, bad):
        self.test = test
        self.bad = bad

    def __len__(self):
        return len(self.test)

    def batch(self, indices):
        for index in indices.tolist():
            if index in self.bad:
                raise DataError(f"val/{index}.png: image file is truncated.")
        return self.test.batch(indices)


@pytest.fixture
def damaged(monkeypatch):
    def load(config):
        task = load_task(config)
        return replace(task, test=Damaged(task.test, {0, 41, 42}))

    monkeypatch.setattr(module, "load_task", load)


def test_an_unreadable_image_ends_with_exit_4(trained, damaged, capsys):
    assert run(["eval", str(trained)]) == 4
    assert capsys.readouterr().err == "lambdanets eval: val/0.png: image file is truncated.\n"


def test_unreadable_images_are_left_out_if_asked(trained, damaged, capsys):
    assert run(["eval", str(trained), "--skip-bad", "--batch", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["total"], found["left_out"]) == (NUM - 3, 3) and len(found["unreadable"]) == 3
    assert run(["eval", str(trained), "--skip-bad"]) == 0
    text = capsys.readouterr().out
    assert "images    57 of 60 of 8x8 pixels; 3 cannot be read and are left out" in text
    assert "  val/41.png: image file is truncated.\n" in text


def test_several_runs_make_one_table(trained, tmp_path, capsys):
    table, none = tmp_path / "new" / "table.csv", tmp_path / "none"
    assert run(["eval", str(trained), str(none), str(trained), "--csv", str(table)]) == 1
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0].split() == ["run", "top-1", "top-5", "loss", "images"]
    assert len(lines) == 3 and max(map(len, lines)) <= 80
    assert output.err.endswith(f"lambdanets eval: 1 of 3 runs could not be evaluated: {none}\n")
    assert run(["eval", str(trained), "--weights", "raw", "--csv", str(table)]) == 0
    capsys.readouterr()
    assert run(["eval", str(none), "--csv", str(table)]) == 2
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [str(one) for one in (trained, none, trained, trained, none)]
    assert rows[0]["correct"] == rows[2]["correct"] and rows[3]["weights"] == "raw"
    assert float(rows[0]["top1"]) * NUM == pytest.approx(int(rows[0]["correct"]))
    assert "must be a folder of `lambdanets train`" in rows[1]["error"] and not rows[0]["error"]
    assert table.read_text().count("run,recipe") == 1
    assert [path.name for path in table.parent.iterdir()] == ["table.csv"]


def test_several_runs_as_json(trained, tmp_path, capsys):
    assert run(["eval", str(trained), str(tmp_path), "--format", "json"]) == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first["run"] == str(trained) and set(second) == {"run", "error"}


def test_a_crash_of_one_run_does_not_end_the_list(trained, tmp_path, monkeypatch, capsys):
    calls = []

    def load(config):
        calls.append(config)
        if len(calls) == 1:
            raise ZeroDivisionError("by zero\nindeed")
        return load_task(config)

    monkeypatch.setattr(module, "load_task", load)
    table = tmp_path / "t.csv"
    assert run(["eval", str(trained), str(trained), "--csv", str(table)]) == 1
    assert ",ZeroDivisionError: by zero indeed,,\n" in table.read_text()
    output = capsys.readouterr()
    assert "Traceback" in output.err and len(output.out.splitlines()) == 2


def test_processes_can_work_on_a_list_together(trained, tmp_path):
    table = tmp_path / "table.csv"

    def part(ctx):
        return list(evaluate_runs([trained] * 2, EvalSettings(), table, ctx=ctx))

    for attempts in run_together([part] * 2):
        assert [attempt.result.evaluation.total for attempt in attempts] == [NUM, NUM]
    # The first process writes.
    assert len(table.read_text().splitlines()) == 3


def test_a_table_of_another_kind_is_refused_before_anything_runs(trained, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("name,score\na,1\n")
    assert run(["eval", str(trained), "--csv", str(tmp_path / "t.csv")]) == 2
    assert "csv must be a table of `lambdanets eval` or a new file, got" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match=r"with the columns name, score\."):
        _check_table(tmp_path / "t.csv")


def test_a_row_follows_a_line_that_was_cut_short(tmp_path):
    path = tmp_path / "t.csv"
    _append_row(path, {"run": "a"})
    path.write_text(path.read_text() + "b,digi")
    _append_row(path, {"run": "c, d"})
    rows = list(csv.reader(path.read_text().splitlines()))
    assert tuple(rows[0]) == _COLUMNS
    assert [row[0] for row in rows[1:]] == ["a", "b", "c, d"]


def test_many_writers_lose_no_row(tmp_path):
    parts = [
        lambda ctx: [_append_row(tmp_path / "t.csv", {"run": f"{ctx.rank}-{i}"}) for i in range(20)]
        for _ in range(4)
    ]
    assert not [error for error in run_together(parts) if isinstance(error, Exception)]
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert {row["run"] for row in rows} == {f"{rank}-{i}" for rank in range(4) for i in range(20)}


def test_a_table_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"eval: .*t\.csv must be writable, got '.*'\. Use another file"):
        _append_row(tmp_path / "file" / "t.csv", {"run": "a"})


def test_images_of_one_size_have_no_other(trained):
    with pytest.raises(ArgumentError, match="left out for digits, whose images have one size, got 12"):
        evaluate_run(trained, EvalSettings(size=12))


def test_another_size_reaches_the_data(trained, monkeypatch):
    sizes = []

    def load(config):
        sizes.append(config.data.test_image_size)
        return load_task(get_recipe("digits-conv"))

    config = RunFolder(trained).read_config(TrainConfig)
    monkeypatch.setattr(
        RunFolder, "read_config", lambda folder, kind: replace(config, data=DigitImagesConfig())
    )
    monkeypatch.setattr(module, "load_task", load)
    evaluate_run(trained, EvalSettings(size=48))
    assert sizes == [48]


def test_images_of_other_classes_are_refused(trained, monkeypatch):
    def load(labels):
        return lambda config: replace(load_task(config), labels=labels)

    digits = tuple(map(str, range(10)))
    monkeypatch.setattr(module, "load_task", load((*digits[:9], "nine")))
    with pytest.raises(
        DataError, match=r"the 10 classes that .* was trained on, got 10, without or beside 9, nine\."
    ):
        evaluate_run(trained)
    monkeypatch.setattr(module, "load_task", load(digits[::-1]))
    with pytest.raises(DataError, match=r"got 10, in another order\."):
        evaluate_run(trained)


def test_no_checkpoint_yet(trained, tmp_path):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(PathError, match=r"must hold a checkpoint for weights 'raw', got none\."):
        evaluate_run(tmp_path, EvalSettings(weights="raw"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "last"}, "weights must be one of 'best', 'ema', 'raw', got 'last'"),
        ({"batch": 0}, "EvalSettings: batch must be at least 1, got 0"),
        ({"num_workers": -1}, "EvalSettings: num_workers must be at least 0, got -1"),
        ({"device": "tpu"}, "device must be one of 'auto', 'cpu', 'cuda', got 'tpu'"),
    ],
)
def test_settings_are_checked(changes, message, unchecked):
    with pytest.raises(ArgumentError, match=message):
        EvalSettings(**changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(trained):
    with pytest.raises(
        DependencyError, match="eval: device cuda needs a GPU for each process of a machine, got 0"
    ):
        evaluate_run(trained, EvalSettings(device="cuda"))


def test_the_command_takes_the_batch_of_the_loop():
    assert EvalSettings().batch == TEST_BATCH == 250
