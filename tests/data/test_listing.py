"""One listing: what it takes and in which order, what it leaves out and why, and where it ends."""

import glob
import json
import os
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from lambdanets.cli import run
from lambdanets.data.config import FolderConfig
from lambdanets.data.folders import open_folder
from lambdanets.data.formats import ENDINGS, UNREAD_ENDINGS
from lambdanets.data.left_out import FOLDER, NO_ENDING, LeftOut, Reason
from lambdanets.data.listing import composed, find_images, list_classes
from lambdanets.data.shards import ShardSource
from lambdanets.errors import DataError, PathError, did_you_mean
from lambdanets.training.run_folder import RunFolder
from support.archives import samples, write_tar
from support.commands import refused
from support.images import encoded, make_folder, photo
from support.training import tiny_config

IMAGE = encoded(photo())


def touch(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def named(counts):
    return {(reason.name, ending, label): number for (reason, ending, label), number in counts.items()}


def test_the_figures_of_runs_are_no_images_of_a_class(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg")
    for place in ("mine", "runs/photos", "runs/other", "cat/run"):
        with RunFolder(tmp_path / place).locked(tiny_config()):
            touch(tmp_path, f"{place}/curves.png")
    found = list_classes(tmp_path)
    assert found.entries == [("cat", b"cat/1.jpg"), ("dog", b"dog/2.jpg")]
    assert "left out: 4 folders of runs" in [*found.left_out.notes()]
    assert len(find_images([str(tmp_path)], "predict")) == 2
    # One that is given is meant.
    assert [path.name for path in find_images([str(tmp_path / "mine")], "predict")] == ["curves.png"]
    for label in ("cat", "dog"):
        (tmp_path / label).rename(tmp_path / "runs" / label)
    (tmp_path / "runs/cat").rename(tmp_path / "mine/cat")
    (tmp_path / "runs/dog").rename(tmp_path / "mine/dog")
    with pytest.raises(DataError, match="must hold a folder for each class, got none"):
        list_classes(tmp_path)


@pytest.mark.parametrize("ending", [ending.decode() for ending in ENDINGS])
@pytest.mark.parametrize("spell", [str, str.upper])
def test_all_endings_of_allowed_formats_are_taken(tmp_path, ending, spell):
    touch(tmp_path, f"cat/1{spell(ending)}", "dog/2.jpg")
    assert [path for _, path in list_classes(tmp_path).entries] == [
        f"cat/1{spell(ending)}".encode(),
        b"dog/2.jpg",
    ]
    assert len(find_images([str(tmp_path)], "predict")) == 2


HEIC = sorted(UNREAD_ENDINGS)
LEFT_OUT = {
    "x.txt": ("ENDING", ".txt"),
    "x": ("ENDING", NO_ENDING),
    "x.jpg.part": ("ENDING", ".part"),
    "x.HEIC": ("FORMAT", ".heic"),
    ".x.png": ("HIDDEN_IMAGE", ".png"),
    "._x.jpg": ("HIDDEN", ".jpg"),
    ".DS_Store": ("HIDDEN", NO_ENDING),
    ".cache/x.jpg": ("HIDDEN", FOLDER),
    "@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg": ("SYSTEM", FOLDER),
    "__MACOSX/x.jpg": ("SYSTEM", FOLDER),
    "$RECYCLE.BIN/x.jpg": ("SYSTEM", FOLDER),
    "Thumbs.db": ("SYSTEM", ".db"),
    "desktop.ini": ("SYSTEM", ".ini"),
    "deep/er/.x.png": ("HIDDEN_IMAGE", ".png"),
    "deep/er/@eaDir/x.jpg": ("SYSTEM", FOLDER),
    "deep/er/x.psd": ("FORMAT", ".psd"),
    **{f"x{ending}": ("FORMAT", ending) for ending in HEIC},
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_counted_with_its_reason(tmp_path, name):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg", f"cat/{name}")
    listing = list_classes(tmp_path)
    assert listing.entries == [("cat", b"cat/1.jpg"), ("dog", b"dog/1.jpg")]
    assert named(listing.left_out.counts) == {(*LEFT_OUT[name], "cat"): 1}
    assert listing.left_out.num_listed == 2
    # `predict` finds the same.
    left_out = LeftOut()
    assert find_images([str(tmp_path)], "predict", left_out=left_out) == [
        tmp_path / "cat/1.jpg",
        tmp_path / "dog/1.jpg",
    ]
    assert named(left_out.counts) == {(*LEFT_OUT[name], ""): 1}
    assert len([*listing.left_out.notes()]) == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("1.jpg", "STRAY"), ("@eaDir/1.jpg", "SYSTEM"), (".git/1.jpg", "HIDDEN")]
)
def test_what_stands_beside_the_classes_is_counted(tmp_path, name, reason):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg", name)
    listing = list_classes(tmp_path)
    assert [label for label, _ in listing.entries] == ["cat", "dog"]
    assert Counter(one.name for one, _, _ in listing.left_out.counts) == {reason: 1}


def test_links_are_counted(tmp_path):
    touch(tmp_path, "data/cat/1.jpg", "data/dog/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data/cat/up").symlink_to("..")
    (tmp_path / "data/cat/gone").symlink_to("nowhere")
    (tmp_path / "data/cat/out.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    (tmp_path / "data/dog/out").symlink_to("../../elsewhere")
    (tmp_path / "data/dog/in.jpg").symlink_to("../cat/1.jpg")
    (tmp_path / "data/dog/in2.jpg").symlink_to(tmp_path / "data/cat/1.jpg")
    left_out = list_classes(tmp_path / "data").left_out
    # `cat/up` leads to the root, which is above none of the classes: `cat` is listed in it once more.
    assert left_out.counts[Reason.DEAD, NO_ENDING, "cat"] >= 1
    assert left_out.counts[Reason.LOOP, FOLDER, "cat"] >= 1
    assert left_out.num_outside >= 2 and left_out.outside[0].endswith("out.jpg")
    assert "what links lead to is taken from outside" in [*left_out.notes()][-1]


def walked(root):
    """The same order by `os.walk`: files of a folder by their names, then those of its folders."""
    for folder, folders, files in os.walk(os.fsencode(root)):
        folders.sort()
        inside = os.path.relpath(folder, os.fsencode(root))
        yield from (inside + b"/" + name for name in sorted(files))


def test_the_order_is_that_of_names(tmp_path):
    names = [
        f"{label}/{deep}{number}.jpg" for label in "aBé" for deep in ("", "x/", "X/y/") for number in "1aZé"
    ]
    touch(tmp_path, *names)
    assert [path for _, path in list_classes(tmp_path).entries] == [
        path
        for label in sorted(map(os.fsencode, "aBé"))
        for path in walked(tmp_path)
        if path.startswith(label)
    ]


@pytest.fixture
def fan(tmp_path):
    """A class with forty folders, each with two links to the next."""
    touch(tmp_path, "data/cat/1.jpg", "data/dog/1.jpg", "f40/1.jpg")
    for number in range(40):
        for name in "ab":
            link = tmp_path / f"f{number}" / name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(tmp_path / f"f{number + 1}")
    (tmp_path / "data/cat/fan").symlink_to(tmp_path / "f0")
    return tmp_path / "data"


@pytest.fixture
def scanned(monkeypatch):
    """The folders that were listed."""
    scan, folders = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda folder: folders.append(folder) or scan(folder))
    return folders


def test_links_that_fan_out_end(fan, scanned):
    message = r"data must hold at most 1,000 folders that links lead to a second time, got more, such as .*…"
    for listing in (
        lambda: list_classes(fan),
        lambda: FolderConfig(root=str(fan)).located().survey(),
        lambda: find_images([str(fan)], "predict"),
        lambda: find_images([f"{fan}/**/*.jpg"], "predict"),
    ):
        scanned.clear()
        with pytest.raises(DataError, match=message):
            listing()
        assert len(scanned) < 5_000


@pytest.mark.slow
def test_links_that_fan_out_end_every_command(fan, scanned, tmp_path, capsys):
    data, job = str(fan), str(tmp_path / "run")
    for words in (
        ["data", "check", data],
        ["data", "shard", data, str(tmp_path / "out")],
        ["train", "photos", "--data.root", data, "--out", job],
        ["predict", job, data],
        ["predict", job, f"{data}/**/*.jpg"],
        ["detect", "predict", job, data, "--out", str(tmp_path / "drawn")],
    ):
        scanned.clear()
        assert "folders that links lead to a second time" in refused(capsys, *words, code=4)
        assert len(scanned) < 5_000
    assert not (tmp_path / "out").exists() and not (tmp_path / "run").exists()


def test_folders_may_be_deep_but_not_endless(tmp_path):
    touch(tmp_path, f"cat/{'d/' * 60}1.jpg", "dog/1.jpg")
    assert len(open_folder(tmp_path)) == 2
    touch(tmp_path, f"cat/{'d/' * 70}1.jpg")
    with pytest.raises(
        DataError, match=r"must hold at most 64 folders below one another, got more, such as .*…"
    ):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["cat", "owl"])
def test_a_class_behind_a_dead_link_is_an_error(tmp_path, name):
    touch(tmp_path, "bee/1.jpg", "dog/1.jpg")
    (tmp_path / name).symlink_to("/mnt/gone")
    message = rf"folder: {tmp_path}/{name} cannot be listed: it is a link to /mnt/gone, which is not there\."
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_that_cannot_be_read_is_an_error_everywhere(tmp_path, monkeypatch, inside):
    touch(tmp_path, "cat/1.jpg", "dog/deep/1.jpg")
    locked = os.fsencode(tmp_path / ("dog/deep" if inside else "dog"))
    scan = os.scandir

    def refusing(folder):
        if os.fsencode(folder) == locked:
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    message = rf"folder: {locked.decode()} cannot be listed: Permission denied\."
    for listing in (
        lambda: open_folder(tmp_path),
        lambda: FolderConfig(root=str(tmp_path)).located().survey(),
        lambda: find_images([str(tmp_path)], "predict"),
        lambda: find_images([f"{tmp_path}/**/*.jpg"], "predict"),
    ):
        with pytest.raises(DataError, match=message):
            listing()


PATTERNS = [
    "*.jpg",
    "**",
    "**/*.jpg",
    "a/**/1.jpg",
    "*/b/**",
    "**/b/*",
    "a?/*.jpg",
    "**/**/1.*",
    "[ab]/*",
    "a/b/1.jpg",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_find_what_glob_finds(tmp_path, pattern):
    names = ["1.jpg", "a/1.jpg", "a/b/1.jpg", "a/b/c/1.jpg", "b/2.jpg", "ab/1.jpg", "a/.h/1.jpg", ".1.jpg"]
    touch(tmp_path, *names)
    theirs = glob.glob(f"{glob.escape(str(tmp_path))}/{pattern}", recursive=True)  # noqa: PTH207
    expected = sorted({Path(one) for one in theirs if Path(one).is_file()})
    assert find_images([f"{tmp_path}/{pattern}"], "predict") == expected
    assert expected


def test_a_folder_without_images_says_what_is_there(tmp_path):
    touch(tmp_path, "a.heic", "b.heic", "c.txt")
    message = r"got .*: no image, but 2 \.heic, 1 \.txt, which are not read\."
    for given in (str(tmp_path), f"{tmp_path}/*", f"{tmp_path}/**"):
        with pytest.raises(PathError, match=message):
            find_images([given], "predict")


NFC, NFD = (unicodedata.normalize(form, "Café été") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("train", "test"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_one_name_in_two_spellings_is_one_class(tmp_path, train, test):
    make_folder(tmp_path / "train", [train, "dog"])
    make_folder(tmp_path / "val", [test, "dog"], each=1)
    config = FolderConfig(root=str(tmp_path)).located()
    assert config.survey().counts["validation"] == {train: 1, "dog": 1}
    first, second = config.open_parts()
    # As they stand in the folder of the training.
    assert first.labels == second.labels == (train, "dog")
    assert second.targets.tolist() == [0, 1]
    assert run(["data", "check", str(tmp_path)]) == 0


def test_two_spellings_beside_each_other_are_an_error(tmp_path):
    touch(tmp_path, f"{NFC}/1.jpg", f"{NFD}/1.jpg", "dog/1.jpg")
    with pytest.raises(
        DataError, match=r"must have names of their own, got twice 'Café été'\. Put the images"
    ):
        open_folder(tmp_path)


def test_a_check_says_what_is_left_out(tmp_path, capsys):
    make_folder(tmp_path, ["cat", "dog"], each=6)
    touch(tmp_path, "cat/a.psd", "cat/b.psd", "dog/c.HEIC", "dog/Thumbs.db", "dog/@eaDir/1.jpg", "d.jpg")
    assert run(["data", "check", str(tmp_path), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["parts"]
    assert first["left_out"] == [
        {"reason": "format", "ending": ".heic", "class": "dog", "files": 1},
        {"reason": "format", "ending": ".psd", "class": "cat", "files": 2},
        {"reason": "stray", "ending": ".jpg", "class": "", "files": 1},
        {"reason": "system", "ending": ".db", "class": "dog", "files": 1},
        {"reason": "system", "ending": FOLDER, "class": "dog", "files": 1},
    ]
    assert second["left_out"] == []
    assert run(["data", "check", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "warning: files that are not read, by their ending: 2 .psd, 1 .heic" in text
    assert "left out: 1 image outside of the class folders, 2 files and folders of the system" in text


def test_few_hidden_files_are_no_news_before_a_training(tmp_path):
    make_folder(tmp_path, ["cat", "dog"], each=6)
    touch(tmp_path, "cat/.DS_Store")
    left_out = list_classes(tmp_path).left_out
    left_out.num_listed = 150
    assert [*left_out.notes(all=False)] == []
    assert [*left_out.notes()] == ["left out: 1 hidden file or folder"]
    touch(tmp_path, "cat/.1.jpg")
    assert [*list_classes(tmp_path).left_out.notes(all=False)]


def test_a_link_to_a_text_is_not_copied_and_links_out_are_named(tmp_path, capsys):
    make_folder(tmp_path / "data", ["cat", "dog"], each=4)
    touch(tmp_path, "other.jpg", content=IMAGE)
    touch(tmp_path, "secret.txt", content=b"password")
    (tmp_path / "data/cat/000a.jpg").symlink_to(tmp_path / "other.jpg")
    assert run(["data", "shard", str(tmp_path / "data"), str(tmp_path / "shards")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"what links lead to is taken from outside of the folder: cat/000a.jpg from {tmp_path}/other.jpg"
        in said
    )
    (tmp_path / "data/dog/000b.jpg").symlink_to(tmp_path / "secret.txt")
    assert run(["data", "shard", str(tmp_path / "data"), str(tmp_path / "more")]) == 4
    assert "dog/000b.jpg: must be an image (AVIF," in " ".join(capsys.readouterr().err.split())
    assert not any(b"password" in shard.read_bytes() for shard in (tmp_path / "more").rglob("*.tar"))


@pytest.mark.parametrize("kind", ["folder", "labels", "shards"])
def test_one_class_alone_is_refused(tmp_path, capsys, kind):
    make_folder(tmp_path / "data/train", ["cat"], each=4)
    make_folder(tmp_path / "data/val", ["cat"], each=2)
    words = ["--data.root", str(tmp_path / "data")]
    options = []
    if kind == "labels":
        for part, count in (("train", 4), ("val", 2)):
            rows = "".join(f"cat/{number:03}.jpg,cat\n" for number in range(count))
            touch(tmp_path, f"data/{part}.csv", content=rows.encode())
        options = ["train-labels", "train.csv", "test-labels", "val.csv"]
    if kind == "shards":
        assert run(["data", "shard", str(tmp_path / "data"), str(tmp_path / "shards")]) == 0
        words = ["--data.name", "shards", "--data.root", str(tmp_path / "shards")]
    given = [f"--{name}" if not place % 2 else name for place, name in enumerate(options)]
    dotted = [f"--data.{name}" if not place % 2 else name for place, name in enumerate(options)]
    assert run(["train", "digits", *words, *dotted, "--out", str(tmp_path / "run")]) == 4
    assert "must hold two classes or more, got 'cat' alone" in " ".join(capsys.readouterr().err.split())
    assert run(["data", "check", words[-1], *given]) == 4


def test_near_names_among_very_many():
    known = [f"class number {number:06d}" for number in range(100_000)]
    start = time.monotonic()
    assert "class number 050123" in did_you_mean("class number 05O123", known)
    assert time.monotonic() - start < 10


def test_ranges_beside_stars_are_few(tmp_path):
    touch(tmp_path, "t-000.tar")
    with pytest.raises(PathError, match=r"must stand for at most 1,000 names beside \* and \?, got 2,000\."):
        ShardSource(tmp_path, "t-{0000..1999}*.tar")


@pytest.mark.slow
def test_many_classes_are_listed_in_proportion(tmp_path, scanned):
    """Three thousand classes with a file each: no folder is listed more than a few times."""
    touch(tmp_path, *(f"n{number:04}/1.jpg" for number in range(3_000)))
    config = FolderConfig(root=str(tmp_path)).located()
    survey = config.survey()
    assert survey.num_classes == 3_000 and len(scanned) < 3_100
    with pytest.raises(DataError, match=r"classes of the training alone, got n0000\. Closest: n"):
        open_folder(tmp_path, labels=tuple(f"n{number:04}" for number in range(1, 3_000)))


def test_classes_of_shards_match_in_either_spelling(tmp_path):
    entries = samples([NFC, NFD, "dog"])
    write_tar(tmp_path / "train/t-0.tar", entries)
    source = ShardSource(tmp_path, "train")
    assert [composed(source.labels[target]) for target in source.targets] == [NFC, NFC, "dog"]
    for names in ((NFC, "dog"), (NFD, "dog")):
        assert ShardSource(tmp_path, "train", names).targets.tolist() == [0, 0, 1]
