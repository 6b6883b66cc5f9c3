"""`eval`, `predict` and `compare` on a run, and their exit codes."""

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from lambdanets.cli import run
from lambdanets.recipes import get_recipe
from lambdanets.runs.train import train
from lambdanets.training.config import SchedConfig
from lambdanets.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "twin"
    config = replace(
        get_recipe("digits-conv"), num_threads=1, global_batch_size=256, sched=SchedConfig(epochs=1)
    )
    with RunFolder(path).locked(config) as folder:
        train(config, folder, command="lambdanets train digits-conv")
    return path


@pytest.fixture
def image(tmp_path):
    image = Image.new("RGB", (60, 80), "white")
    ImageDraw.Draw(image).line([(15, 15), (45, 15), (25, 65)], fill="navy", width=7)
    image.save(tmp_path / "seven.jpg")
    return tmp_path / "seven.jpg"


def test_the_twin_has_no_image_of_lambdas(trained):
    assert not (trained / "lambdas.png").exists()
    assert "lambdas" not in (trained / "report.md").read_text()


def test_eval_counts_exactly(trained, capsys):
    assert run(["eval", str(trained), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        *("run", "recipe", "model", "weights", "epoch", "step", "image_size", "device", "images_per_s"),
        *("is_ema", "data", "test_name"),
        *("accuracy", "correct", "total", "top5_accuracy", "top5_correct", "loss"),
        *("real_accuracy", "real_correct", "real_total", "left_out", "unreadable", "classes", "confusion"),
    }
    assert found["total"] == 500 == sum(map(sum, found["confusion"]))
    assert found["correct"] == sum(row[i] for i, row in enumerate(found["confusion"]))
    assert run(["eval", str(trained)]) == 0
    text = capsys.readouterr().out
    assert f"{found['accuracy']:.2%}, {found['correct']} of 500" in text
    assert all(f"\n{digit} " in text for digit in range(10))


def test_predict_gives_five_with_probabilities(trained, image, capsys):
    assert run(["predict", str(trained), str(image), str(image), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["image"] for entry in found] == [str(image)] * 2
    assert found[0]["inverted"] and found[0] == found[1]
    chances = [guess["probability"] for guess in found[0]["top"]]
    assert len(chances) == 5 and chances == sorted(chances, reverse=True) and 0.5 < sum(chances) <= 1.0001
    assert run(["predict", str(trained), str(image)]) == 0
    assert f"{image} (dark ink on light paper: inverted)" in capsys.readouterr().out


def test_compare_puts_runs_side_by_side(trained, capsys):
    assert run(["compare", str(trained), str(trained)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", str(trained), str(trained)]
    rows = {line.split("  ")[0] for line in lines}
    assert {"last epoch, EMA", "parameters", "training time", "training images/s"} <= rows


def test_a_loss_that_is_not_finite_is_exit_6_and_logged(tmp_path, capsys):
    words = ("--num-threads", "1", "--optim.learning-rate", "1e6", "--sched.warmup-epochs", "0")
    assert run(["train", "digits-conv", "--out", str(tmp_path), *words]) == 6
    assert "must be finite, got nan at step" in capsys.readouterr().err
    assert "NumericError: fit: " in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("eval", "{tmp}"), 2, "must be a folder of `lambdanets train` with config.json, got none"),
        (("compare", "{tmp}"), 2, "must be a folder of `lambdanets train`"),
        (("predict", "{tmp}", "{tmp}/seven.jpg"), 2, "must be a folder of `lambdanets train`"),
        (("predict", "{run}", "{tmp}/none.png"), 2, "none.png, which does not exist"),
        (("predict", "{run}", "{tmp}/text.png"), 4, "text.png: must be an image"),
        (("predict", "{damaged}", "{tmp}/seven.jpg"), 5, "best.safetensors is damaged"),
        (("eval", "{damaged}"), 5, "best.safetensors is damaged"),
        (("eval", "{bare}"), 2, "must hold best.safetensors, got none"),
        (("compare", "{bare}"), 2, "must have finished an epoch, got none"),
    ],
)
def test_bad_input(trained, image, tmp_path, words, code, message, capsys):
    (tmp_path / "text.png").write_text("not an image")
    damaged, bare = tmp_path / "damaged", tmp_path / "bare"
    shutil.copytree(trained, damaged)
    data = bytearray((damaged / "best.safetensors").read_bytes())
    data[-5] ^= 8
    (damaged / "best.safetensors").write_bytes(data)
    bare.mkdir()
    shutil.copy(trained / "config.json", bare)
    places = {"tmp": tmp_path, "run": trained, "damaged": damaged, "bare": bare}
    assert run([word.format(**places) for word in words]) == code
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
