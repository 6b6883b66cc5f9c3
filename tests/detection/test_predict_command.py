"""`lambdanets detect predict`: what it prints and returns, by a detector that is known."""

import json
import sys
from types import SimpleNamespace

import pytest

from lambdanets.data.detection import CocoConfig
from support.colored_detector import CATEGORIES, ColoredDetector, painted
from support.commands import printed, refused


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose detector finds colored rectangles; it keeps what it was asked for."""
    model = ColoredDetector()
    model.to = lambda device: model
    config = SimpleNamespace(data=CocoConfig(root="images", image_size=64))

    def load_detector(path, weights):
        asked.append((path, weights))
        return SimpleNamespace(
            model=model, categories=CATEGORIES, config=config, origin=SimpleNamespace(warnings=())
        )

    asked = []
    monkeypatch.setitem(
        sys.modules, "lambdanets.runs.detect", SimpleNamespace(load_detector=load_detector, asked=asked)
    )
    (tmp_path / "photos").mkdir()
    painted(64, 48, (1, 8, 8, 40, 40), (1, 44, 8, 60, 24), (2, 44, 30, 60, 46)).save(
        tmp_path / "photos" / "a.png"
    )
    painted(64, 48).save(tmp_path / "photos" / "b.png")
    return SimpleNamespace(path=tmp_path / "run", asked=asked, model=model)


def test_text(run, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    text = printed(capsys, "detect", "predict", run.path, photos, "--out", out)
    assert text.splitlines() == [
        f"{photos}/a.png  2 red, 1 blue & <b>",
        f"{photos}/b.png  nothing",
        f"{out}/results.json · {out}/images.json · {out}/drawings",
    ]
    assert run.asked == [(run.path, "best")] and len(list((out / "drawings").iterdir())) == 2


def test_an_unreadable_image_is_named_and_the_rest_goes_on(run, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "a0.jpg").write_bytes(b"no image")
    options = ("--out", out, "--weights", "raw", "--device", "cpu", "--json")
    report = json.loads(printed(capsys, "detect", "predict", run.path, photos, *options, code=4))
    assert [one["counts"] for one in report["images"]] == [{"red": 2, "blue & <b>": 1}, {}]
    assert len(report["unreadable"]) == 1 and report["unreadable"][0].startswith(f"{photos}/a0.jpg: must be")
    assert report["results"] == str(out / "results.json") and run.asked == [(run.path, "raw")]
    text = printed(capsys, "detect", "predict", run.path, photos, "--out", out, code=4)
    assert f"\nunreadable: {photos}/a0.jpg: must be an image" in text


def test_tiles_and_scores(run, tmp_path, capsys):
    options = ("--tile", 32, "--overlap", 0.5, "--score", 0.8, "--out", tmp_path / "out")
    text = printed(capsys, "detect", "predict", run.path, tmp_path / "photos" / "a.png", *options)
    # The whole image, and three by two tiles.
    assert len(run.model.sizes) == 1 + 3 * 2 and text.startswith(f"{tmp_path}/photos/a.png  2 red, 1 blue")


def test_options_that_are_refused(run, tmp_path, capsys):
    command = ("detect", "predict", run.path, tmp_path / "photos", "--out", tmp_path / "out")
    message = "lambdanets detect predict: score must lie between 0 and 1, got 50.0."
    assert refused(capsys, *command, "--score", 50) == message
    assert "detect predict: tile must be at least 1, got 0." in refused(capsys, *command, "--tile", 0)
    assert "overlap must be at least 0 and below 1" in refused(capsys, *command, "--tile", 9, "--overlap", 1)
    message = refused(capsys, "detect", "predict", run.path, "--out", tmp_path / "out")
    assert message == "lambdanets detect predict: images must be given, got none."
    message = refused(capsys, "detect", "predict", run.path, tmp_path / "none", "--out", tmp_path / "out")
    assert message.startswith("lambdanets detect predict: images must be files, folders or patterns, got ")
    assert not run.asked and not (tmp_path / "out").exists()
