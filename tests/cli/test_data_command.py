"""`lambdanets data`: what it prints and returns on sets with planted faults."""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from lambdanets.data import check as data_job
from lambdanets.data import check as sharding
from lambdanets.data.check import check_data, find_files
from lambdanets.data.config import FolderConfig
from lambdanets.data.shards import ShardSource
from lambdanets.errors import DataError
from lambdanets.terminal import format_bytes
from support.archives import image_bytes, samples, write_tar
from support.commands import printed, refused
from support.sources import MemorySource


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


@pytest.fixture
def images(tmp_path):
    """Class folders: three and two of `cat`, four and two of `dog`."""
    for part, counts in (("train", (3, 4)), ("val", (2, 2))):
        for label, count in zip(("cat", "dog"), counts, strict=True):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                size = (10 + number, 20)
                (folder / f"{number}.jpg").write_bytes(image_bytes(number, size))
    return tmp_path / "images"


def test_check_counts(images, capsys):
    num_bytes = sum(path.stat().st_size for path in (images / "train").rglob("*.jpg"))
    text = printed(capsys, "data", "check", images)
    assert text.splitlines()[:5] == [
        f"{images}: folder",
        "train  7 images of 2 classes",
        f"       {format_bytes(num_bytes)}, {format_bytes(round(num_bytes / 7))} each",
        "       cat  3",
        "       dog  4",
    ]
    command = f"train with: lambdanets train photos --data.root {images}\n"
    assert text.endswith(f"nothing wrong; --decode reads each image\n{command}")
    assert "\nwarning: fewer than 10 images to train with of cat (3), dog (4): add images of these" in text
    text = printed(capsys, "data", "check", images, "--decode")
    assert "       from 20×10 to 20×13 pixels\n" in text
    assert text.endswith(f"every image can be decoded\n{command}")


def test_check_shows_the_split_that_a_training_makes(images, capsys, monkeypatch):
    monkeypatch.chdir(images)
    survey = FolderConfig(root="train").located().survey()
    text = printed(capsys, "data", "check", "train")
    assert text.startswith("train: folder\ntrain ")
    for part, counts in survey.counts.items():
        assert (
            f"{part:<12}{sum(counts.values())} images of 2 classes\n".replace("1 images", "1 image") in text
        )
    assert (
        "\nvalidation: 0.2 of each class, about, by a digest of each file's name; --holdout sets another"
        " fraction aside\n" in text
    )
    assert text.endswith("\ntrain with: lambdanets train photos --data.root train\n")
    report = json.loads(printed(capsys, "data", "check", "train", "--holdout", "0.5", "--json"))
    assert report["holdout"] == 0.5 and [part["part"] for part in report["parts"]] == ["train", "validation"]
    assert report["command"] == "lambdanets train photos --data.root train --data.holdout 0.5"


def test_check_says_what_to_type_for_other_parts(images, tmp_path, capsys):
    (images / "val").rename(images / "held")
    text = printed(capsys, "data", "check", images, "--test", "held")
    assert text.endswith(f"train photos --data.root {images} --data.test held\n")
    text = printed(capsys, "data", "check", images, "--test", "")
    assert text.endswith(f"train photos --data.root {images} --data.holdout 0.2\n")
    write_tar(tmp_path / "shards/t-0.tar", samples([0, 1, 1]))
    words = ("--train", "t-*.tar", "--test", "")
    text = printed(capsys, "data", "check", tmp_path / "shards", *words)
    assert text.endswith(
        f"train photos --data.root {tmp_path}/shards --data.name shards --data.train 't-*.tar'"
        " --data.holdout 0.2\n"
    )


def test_check_of_a_layout_that_is_not_understood(images, capsys):
    message = refused(capsys, "data", "check", images / "train" / "cat", code=4)
    assert "must hold a folder for each class, got 3 images and no folder. If these are" in message
    shutil.rmtree(images / "train" / "dog")
    message = refused(capsys, "data", "check", images, "--test", "", code=4)
    assert "must hold two classes or more, got 'cat' alone." in message


def test_check_in_json(images, capsys):
    report = json.loads(printed(capsys, "data", "check", images, "--decode", "--json"))
    about = {"root", "kind", "decoded", "fit", "holdout", "notes", "command"}
    assert set(report) == about | {"only_in", "parts"}
    assert report["command"] == f"lambdanets train photos --data.root {images}" and not report["holdout"]
    assert report["fit"] and report["decoded"] and report["kind"] == "folder"
    train, val = report["parts"]
    about = {"part", "images", "bytes", "pixels", "classes", "empty", "unreadable", "left_out"}
    assert set(train) == about and train["left_out"] == []
    assert (train["images"], train["classes"], train["pixels"]) == (
        7,
        {"cat": 3, "dog": 4},
        [[20, 10], [20, 13]],
    )
    assert (val["part"], val["images"], val["unreadable"]) == ("val", 4, [])


def test_check_names_what_cannot_be_read(images, capsys):
    (images / "train/cat/empty.jpg").touch()
    (images / "val/dog/gone.jpg").symlink_to(images / "none.jpg")
    os.mkfifo(images / "val/dog/pipe.jpg")
    whole = (images / "val/dog/1.jpg").read_bytes()
    (images / "val/dog/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "val/dog/page.jpg").write_text("<html>")
    text = printed(capsys, "data", "check", images, code=4)
    assert f"unreadable: {images}/train/cat/empty.jpg: must not be empty.\n" in text
    assert f"{images}/val/dog/gone.jpg: cannot be read: No such file or directory.\n" in text
    assert f"{images}/val/dog/pipe.jpg: must be a file, got a folder, a pipe or a device.\n" in text
    assert text.endswith("3 of 16 images cannot be read\n")
    report = json.loads(printed(capsys, "data", "check", images, "--decode", "--json", code=4))
    assert not report["fit"]
    assert [len(part["unreadable"]) for part in report["parts"]] == [1, 4]
    text = printed(capsys, "data", "check", images, "--decode", code=4)
    assert text.endswith("5 of 16 images cannot be read\n")


def test_check_without_permission(images, capsys, monkeypatch):
    # Root may read everything; so the system's answer stands in.
    monkeypatch.setattr(
        "lambdanets.data.folders.os.access", lambda path, how: not path.endswith(b"cat/0.jpg")
    )
    text = printed(capsys, "data", "check", images, "--test", "", code=4)
    assert f"{images}/train/cat/0.jpg: cannot be read: Permission denied.\n" in text
    assert "1 of 7 images" in text


def test_check_finds_classes_of_one_part(images, capsys):
    shutil.copytree(images / "train/dog", images / "train/bird")
    text = printed(capsys, "data", "check", images)
    assert "only in train: bird\n" in text
    shutil.copytree(images / "train/dog", images / "val/fish")
    text = printed(capsys, "data", "check", images, code=4)
    assert "only in val: fish\n" in text
    assert text.endswith("not fit: val has classes that train does not have\n")


def test_check_of_many_classes_says_the_fewest_and_the_most(tmp_path, capsys):
    labels = [f"c{number:02d}" for number in range(25)]
    write_tar(tmp_path / "train/a.tar", samples([*labels, "c07", "c07"]))
    write_tar(tmp_path / "val/a.tar", samples(labels[3:] * 2))
    text = printed(capsys, "data", "check", tmp_path)
    assert "fewest 1, in c00\n       most 3, in c07\n" in text
    assert "only in train: c02\n" in text
    (tmp_path / "classes.txt").write_text("\n".join([*labels, "unseen", "neither"]))
    text = printed(capsys, "data", "check", tmp_path)
    assert "no images in train: 2 classes (unseen, neither)\n" in text
    write_tar(tmp_path / "val/a.tar", samples(labels[:1]))
    assert "24 classes are in one part only; --json names them\n" in printed(
        capsys, "data", "check", tmp_path
    )


def test_check_of_shards_and_of_flat_folders(tmp_path, images, capsys):
    write_tar(tmp_path / "shards/t-0.tar", samples([0, 1, 1]))
    text = printed(capsys, "data", "check", tmp_path / "shards", "--train", "t-*.tar", "--test", "")
    assert f"{tmp_path}/shards: shards\nt-*.tar  3 images of 2 classes\n" in text
    flat = images / "val/dog"
    (images / "val/dog.csv").write_text("0.jpg,x\n1.jpg,y\n")
    words = ("--train", "val/dog", "--test", "", "--train-labels", "val/dog.csv")
    text = printed(capsys, "data", "check", images, *words)
    assert "2 images of 2 classes" in text and flat.is_dir()


def test_one_folder_may_hold_both_parts(images, capsys):
    (images / "one.csv").write_text("0.jpg,x\n")
    (images / "other.csv").write_text("1.jpg,y\n")
    words = ("--train", "val/dog", "--test", "val/dog")
    words += ("--train-labels", "one.csv", "--test-labels", "other.csv")
    report = json.loads(printed(capsys, "data", "check", images, *words, "--json", code=4))
    assert [part["classes"] for part in report["parts"]] == [{"x": 1}, {"y": 1}]
    assert not report["fit"]


@pytest.mark.slow
def test_processes_find_what_one_finds(images, monkeypatch):
    (images / "train/cat/empty.jpg").touch()
    place = find_files(str(images))
    expected = check_data(place, decoding=True)
    monkeypatch.setattr(data_job, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(data_job, "_AT_ONCE", 2)
    assert check_data(place, decoding=True, num_workers=2) == expected


class Deadly(MemorySource):
    """A source that ends the process it comes to."""

    def __reduce__(self):
        return os._exit, (9,)


@pytest.mark.slow
def test_a_killed_process_is_a_sentence(images, monkeypatch):
    monkeypatch.setattr(data_job, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(FolderConfig, "open_train", lambda self: Deadly([b"", b""], [0, 1]))
    message = r"data check: processes that decode must live, got one that was killed, probably for memory\."
    with pytest.raises(DataError, match=message):
        check_data(find_files(str(images), kind="folder", test=""), decoding=True, num_workers=2)


def test_shard_keeps_bytes_and_classes(images, tmp_path, capsys):
    out = tmp_path / "out"
    text = printed(capsys, "data", "shard", images, out, "--max-count", "3")
    assert text.splitlines() == [
        "train  7 images in 3 shards",
        "val    4 images in 2 shards",
        f"train with --data.name shards --data.root {out}",
    ]
    train = ShardSource(out, "train")
    files = sorted((images / "train").rglob("*.jpg"))
    assert [train.read(index) for index in range(7)] == [path.read_bytes() for path in files]
    assert train.labels == ("cat", "dog") and train.targets.tolist() == [0] * 3 + [1] * 4
    assert (out / "classes.txt").read_text() == "cat\ndog\n"
    assert len(list(out.rglob("*.index.json"))) == 5
    found, expected = (check_data(find_files(str(root)), decoding=True) for root in (out, images))
    assert found.parts == expected.parts and found.kind == "shards"


def test_shard_shuffles_when_it_is_asked_to(images, tmp_path, capsys):
    printed(
        capsys,
        "data",
        "shard",
        images,
        tmp_path / "out",
        "--test",
        "",
        "--shuffle",
        "5",
        "--max-bytes",
        "20000",
    )
    train = ShardSource(tmp_path / "out", "train")
    assert sorted(train.targets.tolist()) == [0] * 3 + [1] * 4
    files = [path.read_bytes() for path in sorted((images / "train").rglob("*.jpg"))]
    contents = [train.read(index) for index in range(7)]
    assert contents != files and sorted(contents) == sorted(files)
    assert not (tmp_path / "out/val").exists()


def test_shard_refuses(images, tmp_path, capsys, monkeypatch):
    message = refused(capsys, "data", "shard", images, images, code=2)
    assert message == f"lambdanets data shard: folder must be new or empty, got {images} with train."
    (images / "val/cat").rename(images / "val/fish")
    assert "got fish" in refused(capsys, "data", "shard", images, tmp_path / "out", code=4)
    assert not (tmp_path / "out").exists()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharding, "write_class_names", full)
    message = refused(capsys, "data", "shard", images, tmp_path / "out", "--test", "", code=7)
    assert f"data shard: {tmp_path}/out must be writable, got 'No space left on device'." in message


def test_index(tmp_path, capsys, monkeypatch):
    write_tar(tmp_path / "train/a.tar", samples([0, 1]))
    write_tar(tmp_path / "val/b.tar", samples([0]))
    place = tmp_path / "train/a.tar.index.json"
    text = printed(capsys, "data", "index", tmp_path)
    assert text.splitlines()[0] == f"{tmp_path}/train/a.tar  2 images, index {place}"
    assert text.splitlines()[-1] == "2 shards, 3 images"
    assert place.is_file()
    monkeypatch.setattr(sharding, "index_place", lambda shard, stamp: None)
    assert "a.tar  2 images, index nowhere: no folder can be written\n" in printed(
        capsys, "data", "index", tmp_path
    )


def test_what_is_not_there(tmp_path, capsys):
    message = refused(capsys, "data", "check", tmp_path / "none", code=2)
    assert (
        f"data: root must be a folder, got {tmp_path}/none, which is not there. Where the images are now, say"
        " --data.root DIR. A data set of Hugging Face needs" in message
    )
    message = refused(capsys, "data", "index", tmp_path, code=2)
    assert f"data index: root must be a folder with *.tar in it or below, got {tmp_path}." in message
    message = refused(capsys, "data", "check", tmp_path, "--train", "", code=2)
    assert "data: train must name a folder, a pattern or a split, got nothing." in message
    message = refused(capsys, "data", "check", tmp_path, "--workers", "0", code=2)
    assert "data check: workers must be at least 1, got 0." in message


def test_a_hostile_shard_is_named(tmp_path, capsys):
    write_tar(tmp_path / "train/a.tar", [*samples([0]), ("../up.jpg", b"")])
    for words in (("check", tmp_path), ("index", tmp_path), ("shard", tmp_path, tmp_path / "out")):
        message = refused(capsys, "data", *words, code=4)
        assert message == "lambdanets data: shards: a.tar must hold names inside it, got '../up.jpg'."
    assert not (tmp_path / "up.jpg").exists() and not (tmp_path / "out").exists()


def test_hugging_face_needs_its_library(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refused(capsys, "data", "check", "pets", "--kind", "huggingface", code=3)
    assert "datasets must be installed, got none. pip install datasets." in message


def test_shards_are_what_tar_takes(images, tmp_path, capsys):
    printed(capsys, "data", "shard", images, tmp_path / "out", "--test", "")
    (shard,) = (tmp_path / "out/train").glob("*.tar")
    with tarfile.open(shard) as archive:
        assert len(archive.getnames()) == 14
    listed = subprocess.run(["tar", "tf", shard], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[:2] == ["00000000-0.cls", "00000000-0.jpg"]
