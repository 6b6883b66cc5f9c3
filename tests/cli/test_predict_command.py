"""`lambdanets predict`: which files, in which format, and what becomes of those that cannot be read."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lambdanets.cli import run
from lambdanets.recipes import get_recipe
from lambdanets.runs import predict as module
from lambdanets.runs.load import load_run
from support.images import make_folder
from support.runs import photo_run, write_run

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return photo_run(tmp_path_factory.mktemp("photos"), CLASSES)[0]


@pytest.fixture
def photos(tmp_path):
    """Six images in a folder and below, and what is no image by its name."""
    folder = tmp_path / "photos"
    make_folder(folder, ("one", "two"), each=3)
    (folder / "one/notes.txt").write_text("none")
    (folder / ".hidden").mkdir()
    (folder / ".hidden/003.jpg").write_bytes((folder / "one/000.jpg").read_bytes())
    return folder


@pytest.fixture
def predicted(stored, capfd):
    """Run the command: exit code, standard output and standard error."""

    def predict(*words):
        code = run(["predict", str(stored), *map(str, words)])
        return code, *capfd.readouterr()

    return predict


def files_of(folder):
    return [str(path) for path in sorted(folder.glob("*/*.jpg")) if ".hidden" not in path.parts]


def test_a_folder_is_searched_in_order_without_hidden_and_other_files(predicted, photos, stored):
    code, out, _ = predicted(photos, "--json")
    found = json.loads(out)
    assert code == 0 and [one["image"] for one in found] == files_of(photos)
    loaded = load_run(stored)
    for one in found:
        # A field of networks that find a foreground would say nothing of photos.
        assert one.keys() == {"image", "top"}
        expected = loaded.predict(one["image"])
        assert [guess["label"] for guess in one["top"]] == [label for label, _ in expected]
        assert [guess["probability"] for guess in one["top"]] == pytest.approx(
            [chance for _, chance in expected], rel=1e-4
        )


def test_patterns_and_files_come_as_they_are_given(predicted, photos):
    code, out, _ = predicted(photos / "**/001.jpg", photos / "one/000.jpg", photos / "one/000.jpg", "--json")
    expected = [photos / name for name in ("one/001.jpg", "two/001.jpg", "one/000.jpg", "one/000.jpg")]
    assert code == 0 and [one["image"] for one in json.loads(out)] == list(map(str, expected))


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_paths_come_from_the_standard_input(predicted, photos, monkeypatch, separator):
    listed = [*files_of(photos)[::-1], str(photos / "gone.jpg")]
    text = separator.join([*listed, ""]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    code, out, err = predicted("-", "--format", "jsonl")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 4 and [one["image"] for one in found] == listed
    reason = f"{photos}/gone.jpg: cannot be read: No such file or directory."
    assert found[-1] == {"image": listed[-1], "error": reason}
    assert err == f"{reason}\nlambdanets predict: 1 of 7 files cannot be read\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\x89PNG\r\n\x1a\n",
            "got the bytes of an image. Give its path; in Python, `predict` of a run takes",
        ),
        (b" \n\n", "predict: the standard input must hold paths, one a line, got none."),
    ],
)
def test_the_standard_input_must_hold_paths(predicted, monkeypatch, content, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, err = predicted("-")
    assert code == 2 and not out and message in err


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_files_are_named_and_all_others_classified(predicted, photos, num_workers):
    (photos / "one/001.jpg").write_text("text")
    (photos / "two/000.jpg").write_bytes(b"")
    code, out, err = predicted(photos, "--batch", 2, "--num-workers", num_workers, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 4 and [row["path"] for row in rows] == [files_of(photos)[i] for i in (0, 2, 4, 5)]
    lines = err.splitlines()
    assert [line.split(": ")[0] for line in lines[:2]] == [files_of(photos)[i] for i in (1, 3)]
    assert lines[2] == "lambdanets predict: 2 of 6 files cannot be read"


def test_a_table_has_a_row_for_each_image(predicted, photos, tmp_path):
    odd = [
        tmp_path / name for name in ('a,"b".jpg', "line\nbreak.jpg", os.fsdecode(b"\xe9t\xe9.jpg"), "ü.jpg")
    ]
    for path in odd:
        path.write_bytes((photos / "one/000.jpg").read_bytes())
    code, _, err = predicted(*odd, "--out", tmp_path / "new/found.csv", "--top", 2)
    assert (code, err) == (0, "")
    text = (tmp_path / "new/found.csv").read_bytes().decode(errors="surrogateescape")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["path", "label", "probability", "label_2", "probability_2"]
    assert [row[0] for row in rows] == list(map(str, odd))
    assert all(row[1] in CLASSES and float(row[2]) >= float(row[4]) for row in rows)
    code, _, _ = predicted(*odd, "--out", tmp_path / "found.json")
    assert [one["image"] for one in json.loads((tmp_path / "found.json").read_text())] == list(map(str, odd))


def test_text_has_bars_and_one_class_alone_a_line(predicted, photos):
    image = files_of(photos)[0]
    code, out, _ = predicted(image)
    title, *bars = out.splitlines()
    assert code == 0 and title == image and len(bars) == 3
    assert all(bar.split()[0] in CLASSES and bar.split()[1].endswith("%") for bar in bars)
    _, out, _ = predicted(photos, "--top", 1)
    assert [line.split("  ")[0] for line in out.splitlines()] == files_of(photos)
    assert all(line.split("  ")[1] in CLASSES for line in out.splitlines())


def test_json_is_closed_whatever_ends_it(predicted, photos, monkeypatch, tmp_path):
    batches = module.test_batches

    def interrupted(*words, **options):
        yield next(batches(*words, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "test_batches", interrupted)
    code, _, _ = predicted(photos, "--batch", 2, "--out", tmp_path / "part.json")
    assert code == 130 and len(json.loads((tmp_path / "part.json").read_text())) == 2


def test_results_come_batch_by_batch(predicted, photos, stored, monkeypatch):
    """No batch is read before the one before it is classified and handed on."""
    loaded, read = load_run(stored), []
    files = files_of(photos)
    monkeypatch.setattr(module, "read_file", lambda path, name: read.append(name) or _content(path))
    batches = module.predict_files(loaded, files * 1000, batch=4)
    for done in range(1, 4):
        assert len(next(batches)) == 4 and len(read) == 4 * done


def _content(path):
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def test_many_files_show_progress(predicted, photos, monkeypatch):
    shown = []

    class Counting:
        def __init__(self, title, total):
            shown.append((title, total))

        def __enter__(self):
            return shown.append

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("lambdanets.cli.predict.counting", Counting)
    predicted(photos, "--batch", 4)
    assert shown == [("images", 6), 4, 6]
    del shown[:]
    predicted(photos)
    assert shown == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("{tmp}/none.png",), 2, "got {tmp}/none.png, which does not exist."),
        (
            ("{tmp}/*.gif",),
            2,
            "predict: images must be files, folders or patterns, got {tmp}/*.gif: no image.",
        ),
        (("{tmp}/photos", "--top", "0"), 2, "predict: top must be at least 1, got 0."),
        (("{tmp}/photos", "--batch", "0"), 2, "predict: batch must be at least 1, got 0."),
        (
            ("{tmp}/photos", "--out", "{tmp}/photos"),
            7,
            "predict: {tmp}/photos must be writable, got 'a folder",
        ),
        (
            ("{tmp}/photos", "--weights", "raw"),
            2,
            "must hold a checkpoint for weights 'raw', got none. --weights",
        ),
    ],
)
def test_bad_input(predicted, photos, tmp_path, words, code, message):
    found, out, err = predicted(*(word.format(tmp=tmp_path) for word in words))
    assert found == code and not out and message.format(tmp=tmp_path) in err and "Traceback" not in err


@pytest.mark.slow
def test_a_reader_who_leaves_ends_it_quietly(stored, photos):
    words = [sys.executable, "-m", "lambdanets", "predict", str(stored), *[str(photos)] * 40, "--batch", "4"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), errors) == (141, "")


def test_digits_say_whether_ink_and_paper_were_exchanged(tmp_path, capsys):
    write_run(tmp_path / "digits", get_recipe("digits-conv"))
    pixels = np.full((40, 40), 255, dtype=np.uint8)
    pixels[10:30, 18:22] = 0
    for name, plane in (("dark", pixels), ("light", 255 - pixels)):
        Image.fromarray(plane).save(tmp_path / f"{name}.png")
    images = [str(tmp_path / f"{name}.png") for name in ("dark", "light")]
    assert run(["predict", str(tmp_path / "digits"), *images, "--json"]) == 0
    assert [one["inverted"] for one in json.loads(capsys.readouterr().out)] == [True, False]
