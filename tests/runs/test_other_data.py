"""Evaluation on other images than those of the training, and on those that moved."""

import shutil

import pytest
from PIL import Image, ImageDraw

from lambdanets.errors import ArgumentError, DataError, PathError
from lambdanets.recipes import get_recipe
from lambdanets.runs import eval_table
from lambdanets.runs.evaluate import EvalSettings, evaluate_run
from lambdanets.runs.load import load_run
from lambdanets.runs.other_data import OtherData
from support.archives import write_tar
from support.images import make_folder
from support.runs import photo_run, write_run

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def stored(tmp_path):
    path, _, _ = photo_run(tmp_path / "photos", CLASSES)
    return path.rename(tmp_path / "run")


def evaluated(run, **other):
    return evaluate_run(run, EvalSettings(data=OtherData(**other)))


def test_some_of_the_classes_are_matched_by_name(stored, tmp_path):
    make_folder(tmp_path / "other", ("cat", "bee"), each=3)
    found = evaluated(stored, root=str(tmp_path / "other"))
    assert found.evaluation.confusion.sum(dim=1).tolist() == [0, 3, 3]
    assert (found.data, found.test_name, found.is_other) == (str(tmp_path / "other"), "test", True)
    loaded = load_run(stored)
    files = sorted((tmp_path / "other").rglob("*.jpg"))
    right = [loaded.predict(file)[0][0] == file.parent.name for file in files]
    assert found.evaluation.correct == sum(right)


def test_a_part_is_found_or_named(stored, tmp_path, monkeypatch):
    assert evaluated(stored, root=str(tmp_path / "photos")).data == str(tmp_path / "photos/val")
    monkeypatch.chdir(tmp_path)
    found = evaluated(stored, root="photos", test="train")
    assert (found.data, found.test_name, found.evaluation.total) == (
        str(tmp_path / "photos/train"),
        "test",
        6,
    )
    assert "set aside" in evaluated(stored, holdout=0.5).data


def test_shards_and_a_flat_folder_give_what_their_class_folders_give(stored, tmp_path):
    root = tmp_path / "other"
    make_folder(root, CLASSES, each=2)
    files = sorted(root.rglob("*.jpg"))
    members, rows = [], ["file,label"]
    for number, file in enumerate(files):
        kind = CLASSES.index(file.parent.name)
        members += [(f"{number}.jpg", file.read_bytes()), (f"{number}.cls", str(kind).encode())]
        rows.append(f"{file.relative_to(root)},{file.parent.name}")
    write_tar(tmp_path / "shards/a-000.tar", members)
    (tmp_path / "shards/classes.txt").write_text("\n".join(CLASSES))
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    expected = evaluated(stored, root=str(root)).evaluation.confusion
    for other in (
        {"root": str(tmp_path / "shards"), "name": "shards", "test": "a-*.tar"},
        {"root": str(tmp_path), "test": "other", "test_labels": "labels.csv"},
    ):
        assert evaluated(stored, **other).evaluation.confusion.tolist() == expected.tolist()


def test_other_classes_are_named_with_those_of_the_run(stored, tmp_path):
    make_folder(tmp_path / "other", ("ant", "bees"), each=1)
    message = (
        r"must hold classes of .*run alone, got bees\. The classes of the run are ant, bee, cat\."
        r" Closest: bee\. Rename them, or name another part: --data\.test PART"
    )
    with pytest.raises(DataError, match=message):
        evaluated(stored, root=str(tmp_path / "other"))
    with pytest.raises(PathError, match=r"^eval: data\.root must be a folder, got .*none, which is none\."):
        evaluated(stored, root=str(tmp_path / "none"))


def test_images_that_moved_are_named_with_the_option(stored, tmp_path):
    before = evaluate_run(stored)
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    message = r"^eval: the images of .*run must be in .*photos, got no such folder\. If they moved, say where"
    with pytest.raises(PathError, match=message + r" they are: --data\.root DIR$"):
        evaluate_run(stored)
    found = evaluated(stored, root=str(tmp_path / "moved"))
    assert found.evaluation.confusion.equal(before.evaluation.confusion)
    assert found.test_name == before.test_name == "validation"


def test_files_are_prepared_for_a_run_on_digits(tmp_path):
    write_run(tmp_path / "digits", get_recipe("digits-conv"))
    for digit in ("1", "7"):
        (tmp_path / "own" / digit).mkdir(parents=True)
        image = Image.new("RGB", (40, 40), "white")
        ImageDraw.Draw(image).line([(20, 5), (20, 35)], fill="black", width=4)
        image.save(tmp_path / "own" / digit / "a.png")
    found = evaluated(tmp_path / "digits", root=str(tmp_path / "own"))
    assert (found.evaluation.total, found.image_size) == (2, (8, 8))
    with pytest.raises(
        ArgumentError, match=r"^eval: data\.root must be given for .*digits, whose own images"
    ):
        evaluated(tmp_path / "digits", test="val")


def test_an_older_table_gets_the_new_columns(tmp_path):
    table = tmp_path / "table.csv"
    old = eval_table._OLD_COLUMNS
    table.write_text(",".join(old) + "\n" + ",".join(["old run"] + [""] * (len(old) - 1)) + "\n")
    eval_table._check_table(table)
    eval_table._append_row(table, {"run": "new", "data": "place"})
    header, first, second = table.read_text().splitlines()
    assert header == ",".join(eval_table._COLUMNS) and first.startswith("old run,")
    assert second.endswith(",place,")
