"""`lambdanets explain` on a run: what it prints, what it leaves, and its exit codes."""

import json

import pytest
from PIL import Image, ImageDraw

from lambdanets.cli import run
from lambdanets.recipes import get_recipe
from support.runs import write_run

FILES = ("positions.png", "field.png", "content.png", "explain.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "digits"
    write_run(path, get_recipe("digits"))
    return path


@pytest.fixture
def image(tmp_path):
    image = Image.new("RGB", (60, 80), "white")
    ImageDraw.Draw(image).line([(15, 15), (45, 15), (25, 65)], fill="navy", width=7)
    image.save(tmp_path / "seven.jpg")
    return tmp_path / "seven.jpg"


@pytest.mark.slow
def test_a_run_is_explained_with_its_own_weights(trained, image, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    words = ("--layer", "c3.0.mixer", "--position", "2", "5", "--out", str(out))
    assert run(["explain", str(trained), str(image), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("lambda_resnet_digits, trained (digits, epoch 2, 50.0% of its test images): ")
    assert lines[0].endswith("lambda layer c3.0.mixer, map 8×8, 4 heads, key depth 8, scope 7×7")
    assert lines[1].startswith("image seven.jpg at 8×8 pixels, predicted as ")
    assert [line.split("  ")[0] for line in lines[2:]] == [str(out / name) for name in FILES]
    assert "Learned position lambdas" in lines[2] and "random" not in lines[3]
    assert {path.name for path in out.iterdir()} == set(FILES)
    found = json.loads((out / "explain.json").read_text())
    assert (found["layer"], found["position"]) == ("c3.0.mixer", [2, 5])
    assert found["relative_error_of_weights"] < 1e-5


@pytest.mark.slow
def test_the_files_in_json(trained, image, tmp_path, capsys):
    assert run(["explain", str(trained), str(image), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"title", "figures", "numbers", "layers", "relative_error_of_weights"}
    assert [one["path"] for one in found["figures"]] == [str(tmp_path / "out" / name) for name in FILES[:3]]
    assert all(one["caption"].endswith(".") for one in found["figures"])
    assert found["numbers"] == str(tmp_path / "out" / "explain.json") and "c5.0.mixer" in found["layers"]


@pytest.mark.slow
def test_a_run_at_another_size(trained, image, tmp_path):
    assert run(["explain", str(trained), str(image), "--size", "12", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "explain.json").read_text())
    assert found["image_size"] == found["map_size"] == [12, 12]


@pytest.mark.slow
def test_the_default_folder_is_written_again(image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(["explain", "lambda_resnet_digits", str(image), "--size", "8"]) == 0
    assert {path.name for path in (tmp_path / "runs/explain").iterdir()} == set(FILES)
    assert "random weights (seed 0)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_weights_of_a_run_go_with_its_model(trained, image, tmp_path, capsys):
    words = ("--weights", str(trained / "best.safetensors"), "--out", str(tmp_path))
    assert run(["explain", "lambda_resnet_digits", str(image), *words]) == 0
    assert "weights of best.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("resnet_digits", "{image}"), 2, "model must have lambda layers"),
        (("{run}", "{image}", "--layer", "c3.0.mix"), 2, "Closest: c3.0.mixer"),
        (("{run}", "{image}", "--position", "8", "8"), 2, "must lie on the map of 8×8"),
        (("{run}", "{tmp}/none.png"), 2, "explain: image must be a file"),
        (("{run}", "{tmp}/text.png"), 4, "explain: {tmp}/text.png: must be an image"),
        (("{run}", "{tmp}/blank.png"), 4, "explain: {tmp}/blank.png: must show a digit"),
        (
            ("{run}", "{image}", "--weights", "{run}/best.safetensors"),
            2,
            "weights must be left out for a run",
        ),
        (("{run}", "{image}", "--out", "{tmp}/text.png/out"), 7, "must be writable, got 'Not a directory'"),
    ],
)
def test_bad_input(trained, image, tmp_path, words, code, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("not an image")
    Image.new("L", (9, 9)).save(tmp_path / "blank.png")
    places = {"tmp": tmp_path, "run": trained, "image": image}
    assert run(["explain", *(word.format(**places) for word in words)]) == code
    error = capsys.readouterr().err
    assert message.format(**places) in error and "Traceback" not in error
    assert not (tmp_path / "runs").exists()
