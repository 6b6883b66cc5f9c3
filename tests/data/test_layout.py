"""Folders of images as people have them: how they are read, and what is said of the others."""

import os
from pathlib import Path

import pytest

from lambdanets.data.config import FolderConfig
from lambdanets.data.folders import open_folder
from lambdanets.data.sources import holdout_split
from lambdanets.errors import DataError, PathError


def make(root, *files, **many):
    """Files of a byte: names, and as `cat=3` folders with so many images."""
    names = [*files, *(f"{folder}/{number}.jpg" for folder, num in many.items() for number in range(num))]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def located(root, **settings):
    return FolderConfig(root=str(root), **settings).located()


def said(root, **settings):
    """The message about a folder, with its place as ROOT."""
    with pytest.raises((DataError, PathError)) as found:
        located(root, **settings).survey()
    return str(found.value).replace(str(root), "ROOT")


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("cat", "dog"), (".", "val", 0.2)),
        (("train/cat", "train/dog", "val/cat"), ("train", "val", 0.0)),
        (("training/cat", "validation/cat"), ("training", "validation", 0.0)),
        (("Train/cat", "Valid/cat"), ("Train", "Valid", 0.0)),
        (("train/cat", "test/cat"), ("train", "test", 0.0)),
        (("train/cat", "valid/cat", "test/cat"), ("train", "valid", 0.0)),
        # A class of trains.
        (("train", "bus", "car"), (".", "val", 0.2)),
        # What cannot be decided stays as it is.
        (("train/cat",), ("train", "val", 0.0)),
        (("train/cat", "valid/cat", "validation/cat"), ("train", "val", 0.0)),
        (("train/cat", "training/cat", "val/cat"), ("train", "val", 0.0)),
        (("val/cat", "test/cat"), ("train", "val", 0.0)),
    ],
)
def test_parts_are_found_by_their_names(tmp_path, folders, parts):
    make(tmp_path, *(f"{folder}/1.jpg" for folder in folders))
    found = located(tmp_path)
    assert (found.train, found.test, found.holdout) == parts
    assert found.located() == found


def test_what_is_said_is_done(tmp_path):
    make(tmp_path, cat=5, dog=5)
    assert located(tmp_path, holdout=0.4).holdout == 0.4
    assert located(tmp_path, train="./", holdout=0.1).train == "./"
    assert located(tmp_path, train_labels="labels.csv").train == "train"
    assert located(tmp_path, test="dog").train == "train"


def test_a_validation_has_its_name(tmp_path):
    make(tmp_path, "train/cat/1.jpg", "test/cat/1.jpg")
    assert located(tmp_path).test_name == "test"
    make(tmp_path, "valid/cat/1.jpg")
    assert located(tmp_path).test_name == "validation"


def test_the_split_that_is_shown_is_the_split_that_is_made(tmp_path):
    make(tmp_path, cat=40, dog=23, fox=2)
    config = located(tmp_path)
    survey = config.survey()
    source = open_folder(tmp_path)
    for part, indices in zip(survey.counts.values(), holdout_split(source, 0.2), strict=True):
        found = source.targets[indices].bincount(minlength=3).tolist()
        assert found == [part[label] for label in source.labels]
    assert survey.counts["train"]["fox"] == survey.counts["validation"]["fox"] == 1
    assert len(survey.images) == sum(survey.counts["train"].values())
    assert all(Path(os.fsdecode(path)).is_file() for path in survey.images)
    train, test = config.open_parts()
    assert (len(train), len(test)) == tuple(sum(part.values()) for part in survey.counts.values())


def test_the_table_of_a_split(tmp_path):
    make(tmp_path, "cat/notes.txt", "cat/a.HEIC", "cat/b.heic", cat=200, dog=12)
    survey = located(tmp_path).survey()
    cats, dogs = (survey.counts["train"][label] for label in ("cat", "dog"))
    lines = survey.lines().splitlines()
    assert lines[0] == f"{tmp_path}: 2 classes"
    assert lines[1].split() == ["class", "train", "validation"]
    assert lines[2].split() == ["cat", str(cats), str(200 - cats)]
    assert lines[4].split() == ["all", str(cats + dogs), str(212 - cats - dogs)]
    assert lines[5] == (
        "validation: 0.2 of each class, about, by a digest of each file's name (--data.holdout); the same"
        " images every time"
    )
    assert "warning: files that are not read, by their ending: 2 .heic, 1 .txt" in lines
    assert any(
        line.startswith(f"warning: unequal classes: {cats} images of cat, {dogs} of dog;") for line in lines
    )


def test_many_classes_are_told_by_the_fewest_and_the_most(tmp_path):
    make(tmp_path, **{f"class{number:02}": 12 + number for number in range(30)})
    lines = located(tmp_path).survey().lines()
    assert "30 classes" in lines and "fewest: class0" in lines and "most: class2" in lines
    assert len(lines.splitlines()) < 10


def test_few_images_are_warned_of(tmp_path):
    make(tmp_path, cat=9, dog=30)
    (note,) = located(tmp_path).survey().notes
    cats = located(tmp_path).survey().counts["train"]["cat"]
    assert note == (f"fewer than 10 images to train with of cat ({cats}): add images of these classes")


def test_a_part_of_its_own_is_counted_too(tmp_path):
    make(tmp_path, **{"train/cat": 12, "train/dog": 12, "val/cat": 3})
    survey = located(tmp_path).survey()
    assert survey.counts == {"train": {"cat": 12, "dog": 12}, "validation": {"cat": 3}}
    assert not survey.holdout and not survey.notes and "digest" not in survey.lines()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ("photos/cat/1.jpg", "photos/dog/1.jpg"),
            "data: ROOT must hold a folder of images for each class, got folders of folders, such as"
            " photos/cat."
            " The classes are a level further down: --data.root ROOT/photos",
        ),
        (
            ("photos/train/cat/1.jpg", "photos/val/cat/1.jpg"),
            "data: ROOT must hold a folder of images for each class, got folders of folders, such as"
            " photos/train. The classes are a level further down: --data.root ROOT/photos",
        ),
        (
            ("may/cat/1.jpg", "may/dog/1.jpg", "june/cat/1.jpg", "june/dog/1.jpg"),
            "data: ROOT must hold a folder of images for each class, got folders of folders, such as"
            " june/cat."
            " The classes are a level further down: --data.root ROOT/june, or for the classes june, may"
            " --data.train ./ --data.holdout 0.2",
        ),
        (
            ("train/images/cat/1.jpg", "train/images/dog/1.jpg", "val/images/cat/1.jpg"),
            "data: ROOT/train must hold a folder of images for each class, got folders of folders, such as"
            " images/cat. The classes are a level further down: --data.train train/images, and --data.test"
            " accordingly",
        ),
        (
            ("cat/1.jpg", "cat/2.jpg"),
            "data: ROOT must hold two classes or more, got 'cat' alone. A network that is to tell it from"
            " anything else needs a folder of other images too.",
        ),
        (
            ("cat/1.jpg", "dog/1.jpg", "fox/1.heic", "fox/2.heic", "fox/a.txt"),
            "data: each class of ROOT must have images, got none in fox; there are 2 .heic, 1 .txt. Files are"
            " read by their ending (.jpg .jpeg .png .webp .gif .bmp .tif .avif and some more): convert"
            " the others, as to .jpg.",
        ),
        (
            ("cat/1.heic", "dog/1.heic"),
            "data: ROOT must hold images, got none in 2 class folders; there are 2 .heic. Files are read by"
            " their ending (.jpg .jpeg .png .webp .gif .bmp .tif .avif and some more): convert"
            " the others, as to .jpg.",
        ),
        (
            ("train/cat/1.jpg", "train/dog/1.jpg"),
            "data: ROOT must hold the part val beside the part to train with, got none. Set a fifth of the"
            " training aside by --data.holdout 0.2, or name another part: --data.test FOLDER",
        ),
        (
            ("train/cat/1.jpg", "train/dog/1.jpg", "valid/cat/1.jpg", "validation/cat/1.jpg"),
            "data: ROOT must hold one part to test with, got valid, validation. Say which: --data.test valid",
        ),
        (
            ("val/cat/1.jpg",),
            "data: ROOT must hold the part train, got none. There is val alone. --data.train FOLDER names"
            " another.",
        ),
        (
            ("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dogs/1.jpg"),
            "data: ROOT/val must have classes of the training alone, got dogs. Closest: dog.",
        ),
        (
            ("1.jpg", "2.jpg", "labels.csv"),
            "data: ROOT must hold a folder for each class, got 2 images and the file labels.csv. If"
            " it says the"
            " class of each: --data.train . --data.train-labels labels.csv --data.holdout 0.2",
        ),
        (
            ("train/1.jpg", "train/2.jpg", "val/3.jpg", "train.csv"),
            "data: ROOT/train must hold a folder for each class, got 2 images and the file train.csv. If it"
            " says the class of each: --data.train train --data.train-labels train.csv",
        ),
        (
            ("train/a.tar", "train/b.tar", "val/a.tar"),
            "data: ROOT/train must hold a folder for each class, got 2 tar archives. Train with them:"
            " --data.name shards --data.root ROOT",
        ),
        (
            ("train-0.tar", "train-1.tar", "val-0.tar"),
            "data: ROOT must hold a folder for each class, got 3 tar archives. Say which of them are"
            " for what:"
            " --data.name shards --data.root ROOT --data.train 'train-*.tar' --data.test 'val-*.tar'",
        ),
        (
            ("photos.zip",),
            "data: ROOT must hold a folder for each class, got the archive photos.zip. Unpack it first: unzip"
            " photos.zip -d photos",
        ),
        (
            ("a.txt", "b.txt", "c.heic"),
            "data: ROOT must hold a folder for each class, got files that are not read: 2 .txt, 1 .heic. Read"
            " are .jpg .jpeg .png .webp .gif .bmp .tif .avif and some more; others"
            " must be converted, as to .jpg.",
        ),
        (
            ("annotations/instances_train2017.json", "train2017/1.jpg", "val2017/1.jpg"),
            "data: root must be a folder of classes for a classifier, got COCO's JSON in ROOT"
            " (annotations/instances_train2017.json). Detectors learn from it: lambdanets detect train RECIPE"
            " --data.root ROOT",
        ),
        (
            ("train/_annotations.coco.json", "train/1.jpg", "valid/1.jpg"),
            "data: root must be a folder of classes for a classifier, got COCO's JSON in ROOT"
            " (train/_annotations.coco.json). Detectors learn from it: lambdanets detect train RECIPE"
            " --data.root ROOT",
        ),
    ],
)
def test_a_layout_that_is_not_understood_gets_a_hint(tmp_path, files, message):
    make(tmp_path, *files)
    assert said(tmp_path) == message


def test_a_class_folder_is_one_level_too_low(tmp_path):
    make(tmp_path, cat=2, dog=2)
    assert said(tmp_path / "cat") == (
        "data: ROOT must hold a folder for each class, got 2 images and no folder. If these are the images of"
        f" one class, the root is the folder above: --data.root {tmp_path}"
    )


def test_an_empty_folder_and_empty_classes(tmp_path):
    assert "must hold a folder for each class, got an empty folder. Read are .jpg" in said(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    assert said(tmp_path) == (
        "data: ROOT must hold images, got none in 2 class folders. Put images into them."
    )
    make(tmp_path, cat=2, fox=2)
    assert said(tmp_path) == (
        "data: each class of ROOT must have images, got none in dog. Remove the folders of classes without"
        " images."
    )


def test_a_place_that_is_not_there_gets_the_nearest(tmp_path):
    make(tmp_path, **{"photos/cat": 1})
    assert said(tmp_path / "photo") == (
        "data: root must be a folder, got ROOT, which is not there. Closest: photos. Where the"
        " images are now,"
        " say --data.root DIR."
    )
    assert said(tmp_path / "a" / "b") == (
        f"data: root must be a folder, got ROOT, which is not there. {tmp_path} is there. Where the"
        f" images are"
        " now, say --data.root DIR."
    )
    moved = FolderConfig(root=str(tmp_path / "a"), root_given="images")
    for look in (moved.survey, moved.open_train, moved.open_test):
        with pytest.raises(
            PathError, match=r"got .*/a \(given as images from another folder\), which is not"
        ):
            look()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("photos.zip", "Unpack it first: unzip photos.zip -d photos"),
        ("photos.tar.gz", "Unpack it first: mkdir photos && tar -xf photos.tar.gz -C photos"),
        ("cat.jpg", "Try the folder that holds it: --data.root ROOT"),
    ],
)
def test_a_file_is_no_root(tmp_path, name, hint):
    make(tmp_path, name)
    with pytest.raises(PathError) as found:
        located(tmp_path / name).survey()
    message = str(found.value).replace(str(tmp_path), "ROOT")
    assert message == f"data: root must be a folder, got the file ROOT/{name}. {hint}"


def test_a_class_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    make(tmp_path, cat=2, dog=2)
    listed = os.scandir

    def refusing(path):
        if os.fsencode(path).endswith(b"dog"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert said(tmp_path) == "folder: ROOT/dog cannot be listed: Permission denied."


def test_flat_folders_with_labels_are_counted_too(tmp_path):
    make(tmp_path, *(f"train/{number}.jpg" for number in range(30)), "val/1.jpg", "val/2.jpg")
    (tmp_path / "labels.csv").write_text(
        "".join(f"{number}.jpg,{'ab'[number % 2]}\n" for number in range(24))
    )
    (tmp_path / "test.csv").write_text("1.jpg,b\n")
    config = located(tmp_path, train_labels="labels.csv", test_labels="test.csv")
    survey = config.survey()
    assert config.train == "train" and survey.counts == {"train": {"a": 12, "b": 12}, "validation": {"b": 1}}
    assert survey.lines().endswith("warning: left out: 7 images that the label file does not name")
