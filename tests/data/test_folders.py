"""Folders: classes and label files, in the order others give them, and what is wrong with them in words."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdanets.data.folders import open_folder
from lambdanets.data.label_file import _read_label_file
from lambdanets.data.sources import Source
from lambdanets.errors import DataError, PathError
from support.privileges import without_override


def touch(root, *names):
    for name in names:
        path = Path(root) / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))


def contents(source):
    return [(source.labels[target], source.read(index)) for index, target in enumerate(source.targets)]


def test_each_folder_is_a_class_and_folders_may_be_deep(tmp_path):
    touch(tmp_path, "dog/b.JPG", "dog/a.png", "cat/x/y/z.webp", "cat/a.jpeg", "stray.jpg")
    source = open_folder(tmp_path)
    assert source.labels == ("cat", "dog")
    assert contents(source) == [
        ("cat", b"cat/a.jpeg"),
        ("cat", b"cat/x/y/z.webp"),
        ("dog", b"dog/a.png"),
        ("dog", b"dog/b.JPG"),
    ]
    assert source.name(1) == f"{tmp_path}/cat/x/y/z.webp"
    assert isinstance(source, Source)


def test_other_files_and_hidden_ones_are_passed_over(tmp_path):
    touch(tmp_path, "a/x.jpg", "a/notes.txt", "a/Thumbs.db", "a/._x.jpg", ".git/x.jpg", "a/.cache/x.jpg")
    assert contents(open_folder(tmp_path)) == [("a", b"a/x.jpg")]


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0."), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(tree=st.dictionaries(names, st.sets(names, min_size=1, max_size=4), min_size=1, max_size=4))
def test_classes_and_order_are_torchvision_s(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    try:
        touch(root, *(f"{folder}/{name}.png" for folder, inside in tree.items() for name in inside))
    except OSError:
        return
    from torchvision.datasets import ImageFolder

    theirs, ours = ImageFolder(str(root)), open_folder(root)
    assert len(ours) == len(theirs)
    assert ours.targets.tolist() == theirs.targets
    for index, (path, _) in enumerate(theirs.samples):
        assert ours.read(index) == Path(path).read_bytes()


def test_names_that_are_no_text_are_classes_too(tmp_path):
    touch(tmp_path, b"x\xe9/\xff.jpg", "xé/x.jpg", "猫 with space/x.jpg")
    source = open_folder(tmp_path)
    assert source.labels == ("xé", "x\\xe9", "猫 with space")
    assert contents(source)[1] == ("x\\xe9", b"x\xe9/\xff.jpg")
    assert source.name(1).endswith("x\\xe9/\\xff.jpg")
    assert json.loads(json.dumps(source.labels))


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / "elsewhere", "x.jpg")
    touch(tmp_path / "data", "a/y.jpg")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "data" / "a" / "gone.jpg").symlink_to("gone")
    source = open_folder(tmp_path / "data")
    # What cannot be read is listed, so that it is counted.
    found = [source.name(index).removeprefix(f"{tmp_path}/data/") for index in range(len(source))]
    assert found == ["a/gone.jpg", "a/self.jpg", "a/y.jpg", "a/up/b/x.jpg", "b/x.jpg"]


def test_a_source_goes_to_other_processes(tmp_path):
    touch(tmp_path, "a/x.jpg", "b/y.jpg")
    assert contents(pickle.loads(pickle.dumps(open_folder(tmp_path)))) == contents(open_folder(tmp_path))


def test_a_test_has_the_classes_of_the_training(tmp_path):
    touch(tmp_path, "val/dog/x.jpg")
    source = open_folder(tmp_path / "val", labels=("cat", "dog"))
    assert (source.labels, source.targets.tolist()) == (("cat", "dog"), [1])
    with pytest.raises(
        DataError, match=r"must have classes of the training alone, got dog\. Closest: dogs\."
    ):
        open_folder(tmp_path / "val", labels=("cat", "dogs"))


CSV = ("path,label\nb.jpg,dog\nsub/a.jpg, cat \n", "b.jpg,dog\nsub/a.jpg,cat\n")
FORMS = {
    "header.csv": CSV[0],
    "plain.csv": CSV[1],
    "windows.csv": "\ufeffFile,Label\r\nb.jpg,dog\r\n\r\n./sub/a.jpg,cat\r\n",
    "more.csv": "id,label,file\n1,dog,b.jpg\n2,cat,sub//a.jpg\n",
    "object.json": json.dumps({"b.jpg": "dog", "sub/a.jpg": "cat"}),
    "list.json": json.dumps([{"path": "b.jpg", "label": "dog"}, {"file": "sub/a.jpg", "label": "cat"}]),
}


@pytest.mark.parametrize("form", FORMS)
def test_label_files_of_every_form_say_the_same(tmp_path, form):
    touch(tmp_path / "flat", "b.jpg", "sub/a.jpg", "unlisted.jpg")
    (tmp_path / form).write_bytes(FORMS[form].encode())
    source = open_folder(tmp_path / "flat", label_file=tmp_path / form)
    assert source.labels == ("cat", "dog")
    assert contents(source) == [("cat", b"sub/a.jpg"), ("dog", b"b.jpg")]


def test_labels_may_be_numbers_and_files_have_any_ending(tmp_path):
    touch(tmp_path / "flat", "one", b"\xff.dat")
    (tmp_path / "labels.csv").write_bytes(b"one,10\n\xff.dat,9\n")
    source = open_folder(tmp_path / "flat", label_file=tmp_path / "labels.csv")
    assert contents(source) == [("10", b"one"), ("9", b"\xff.dat")]
    (tmp_path / "labels.json").write_text('{"one": 10}')
    assert contents(open_folder(tmp_path / "flat", label_file=tmp_path / "labels.json")) == [("10", b"one")]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("l.csv", "", r"l\.csv must give at least one image its label, got none\."),
        ("l.csv", "path,label\n", "must give at least one image"),
        ("l.csv", "a.jpg,x\nb.jpg\n", r"l\.csv, line 2 must have two columns, path and label, got 1\."),
        ("l.csv", "a.jpg,x,y\n", r"line 1 must have two columns, path and label, got 3\."),
        ("l.csv", "label,path\nx,a.jpg\nx\n", r"line 3 must have as many columns as the header, got 1\."),
        ("l.csv", "a.jpg,\n", r"line 1 must give a path and a label .*, got 'a\.jpg' and ''\."),
        ("l.csv", 'a.jpg,"x\n', r"l\.csv cannot be read as a label file: unexpected end of data"),
        (
            "l.csv",
            "a.jpg,x\nc.jpg,x\n",
            r"line 2 must name a file of .*flat, got 'c\.jpg', which is not there\.",
        ),
        (
            "l.csv",
            "a.jpg,x\n./a.jpg,y\n",
            r"line 2 must name an image once, got '\./a\.jpg' again, which .*line 1",
        ),
        ("l.json", "{", r"l\.json cannot be read as a label file: Expecting"),
        ("l.json", "3", r"l\.json must hold an object or a list, got 3\."),
        ("l.json", "[" * 10**5, "cannot be read as a label file: maximum recursion depth"),
        ("l.json", '["a.jpg"]', r"entry 1 must give a path and a label .*, got None and None\."),
        ("l.json", '{"a.jpg": true}', r"entry 'a\.jpg' must give a path and a label"),
        ("l.json", '{"a.jpg": "x", "a.jpg": "y"}', r"entry 'a\.jpg' must name an image once"),
        ("l.json", '{"\\ud800.jpg": "x"}', r"must name a file of .*flat, got '\\\\ud800\.jpg'"),
        ("l.xls", "a.jpg,x\n", r"label file must end with \.csv, \.tsv, \.txt, \.json, got .*l\.xls\."),
    ],
)
def test_a_wrong_label_file_is_told_with_its_line(tmp_path, file, content, message):
    touch(tmp_path / "flat", "a.jpg", "b.jpg")
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path / "flat", label_file=tmp_path / file)


def test_a_missing_label_file_is_a_path_error(tmp_path):
    with pytest.raises(
        PathError, match=r"folder: label file must be a file, got .*none\.csv, which does not"
    ):
        _read_label_file(tmp_path / "none.csv")


def test_wrong_folders_are_told(tmp_path):
    touch(tmp_path, "flat/x.jpg", "texts/a/x.txt", "half/a/x.jpg", "half/b/x.txt")
    touch(tmp_path, b"twice/\xe9/x.jpg", b"twice/\\xe9/x.jpg")
    for folder, error, message in [
        ("none", PathError, r"folder: .*none must be a folder, got none\."),
        ("flat/x.jpg", PathError, r"folder: .*x\.jpg must be a folder, got none\."),
        ("flat", DataError, r"flat must hold a folder for each class, got none\. .*--data\.train-labels"),
        ("texts", DataError, r"texts must hold images, got none in 1 class folders; there are 1 \.txt\."),
        ("half", DataError, r"each class of .*half must have images, got none in b; there are 1 \.txt\."),
        ("twice", DataError, r"classes of .*twice must have names of their own, got twice '\\\\xe9'\."),
    ]:
        with pytest.raises(error, match=message):
            open_folder(tmp_path / folder)


def test_a_folder_without_permission_is_named(tmp_path):
    touch(tmp_path, "a/x.jpg")
    (tmp_path / "a").chmod(0)
    message = r"folder: .*a cannot be listed: Permission denied\."
    with without_override(), pytest.raises(DataError, match=message):
        open_folder(tmp_path)
    (tmp_path / "a").chmod(0o700)


def test_a_folder_that_goes_away_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a/x.jpg")

    def gone(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("lambdanets.data.folders.os.scandir", gone)
    with pytest.raises(DataError, match=r"cannot be listed: Input/output error\."):
        open_folder(tmp_path)


def test_targets_are_whole_numbers(tmp_path):
    touch(tmp_path, "a/x.jpg")
    assert open_folder(tmp_path).targets.dtype == torch.int64
