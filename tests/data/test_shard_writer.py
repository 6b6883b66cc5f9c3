"""Shards that are written hold the same bytes, are the same each time, and are whole or not there."""

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from lambdanets.data import shard_writer
from lambdanets.data.folders import write_class_names
from lambdanets.data.shard_writer import _image_extension, write_shards
from lambdanets.data.shards import ShardSource
from lambdanets.errors import ArgumentError, DataError, StorageError
from support.archives import content, image_bytes
from support.sources import MemorySource


@pytest.fixture(autouse=True)
def _any_bytes(monkeypatch, request):
    """The form of archives is shown by bytes of any kind, as if they were images."""
    if "images" not in request.fixturenames:
        monkeypatch.setattr(shard_writer, "check_image", lambda data, name: None)


@pytest.fixture
def images():
    """Asked for by tests that write images."""


def _source(num=7):
    return MemorySource([content(index) for index in range(num)], [index % 2 for index in range(num)])


def test_what_is_written_is_read_again(tmp_path):
    source = _source()
    paths = write_shards(source, tmp_path / "train", "train", max_count=3)
    assert [path.name for path in paths] == [f"train-{number:06d}.tar" for number in range(3)]
    write_class_names(tmp_path, source.labels)
    found = ShardSource(tmp_path, "train")
    assert [found.read(index) for index in range(7)] == source.contents
    assert found.targets.equal(source.targets) and found.labels == source.labels
    assert found.name(4) == "train-000001.tar: 00000004-photo-4.jpg"


def test_members_have_no_time_and_no_owner_and_the_form_of_webdataset(tmp_path):
    source = MemorySource([image_bytes(form="PNG"), b"?"], [0, 1])
    (path,) = write_shards(source, tmp_path / "a", "s")
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        *("00000000-photo-0.cls", "00000000-photo-0.png", "00000001-photo-1.cls", "00000001-photo-1.jpg")
    ]
    plain = {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members}
    assert plain == {(0, 0, 0, "", "")}
    assert {member.mode for member in members} == {0o644}


def test_the_same_source_gives_the_same_archives(tmp_path):
    def sums(name, **options):
        paths = write_shards(_source(), tmp_path / name, "s", max_count=4, **options)
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    assert sums("a") == sums("b")
    assert sums("c", shuffle_seed=1) == sums("d", shuffle_seed=1) != sums("e", shuffle_seed=2)


def test_shuffled_images_keep_their_classes(tmp_path):
    source = _source(40)
    write_shards(source, tmp_path / "a", "s", max_count=9, shuffle_seed=3)
    found = ShardSource(tmp_path, "a")
    contents = [found.read(index) for index in range(40)]
    assert contents != source.contents and sorted(contents) == sorted(source.contents)
    classes = dict(zip(source.contents, source.classes, strict=True))
    assert found.targets.tolist() == [classes[one] for one in contents]


def test_no_archive_is_larger_than_asked_unless_one_image_is(tmp_path):
    contents = [bytes(30_000)] * 6 + [bytes(200_000)] + [bytes(30_000)]
    paths = write_shards(MemorySource(contents, [0] * 8), tmp_path / "a", "s", max_bytes=102_400)
    sizes = [path.stat().st_size for path in paths]
    assert sizes == [102_400, 102_400, 204_800, 40_960]
    assert len(ShardSource(tmp_path, "a")) == 8


def test_a_image_that_cannot_be_read_leaves_nothing(tmp_path):
    source = MemorySource([content(0), None], [0, 1])
    with pytest.raises(DataError, match=r"photo 1.jpg: cannot be read: Permission denied\."):
        write_shards(source, tmp_path / "a", "s")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_and_is_one_sentence(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "flush", full)
    message = r"write_shards: .*a must be writable, got 'No space left on device'\."
    with pytest.raises(StorageError, match=message):
        write_shards(_source(), tmp_path / "a", "s")
    assert not list(tmp_path.iterdir())


def test_shards_appear_when_all_of_them_are_there(tmp_path):
    seen = []
    write_shards(_source(), tmp_path / "a", "s", max_count=2, progress=lambda count: seen.append(count))
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    there = []
    write_shards(
        _source(),
        tmp_path / "b",
        "s",
        max_count=2,
        progress=lambda _: there.append((tmp_path / "b").exists()),
    )
    assert there == [False] * 7 and len(list((tmp_path / "b").iterdir())) == 4


def test_arguments(tmp_path):
    with pytest.raises(ArgumentError, match=r"write_shards: max_count must be at least 1, got 0\."):
        write_shards(_source(), tmp_path / "a", "s", max_count=0)
    with pytest.raises(ArgumentError, match=r"write_shards: max_bytes must be at least 1, got -1\."):
        write_shards(_source(), tmp_path / "a", "s", max_bytes=-1)
    message = r"write_shards: prefix must be of letters, digits, - and _, got '../s'\."
    with pytest.raises(ArgumentError, match=message):
        write_shards(_source(), tmp_path / "a", "../s")
    message = r"write_shards: folder must not be there yet, got .*, which is\."
    with pytest.raises(ArgumentError, match=message):
        write_shards(_source(), tmp_path, "s")


@pytest.mark.parametrize(
    ("form", "extension"),
    [
        *(("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif")),
        *(("PPM", "ppm"), ("AVIF", "avif"), ("JPEG2000", "jp2")),
    ],
)
def test_extensions_are_those_of_the_bytes(form, extension):
    assert _image_extension(image_bytes(form=form), "wrong.xyz") == extension


def test_extensions_of_unknown_bytes_are_those_of_the_name():
    assert _image_extension(b"", "a/b.PNG") == "png"
    assert _image_extension(b"<html>", "row 5") == "jpg"


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("/a/b/n01_10026.v2.JPEG", "00000000-n01_10026"),
        ("set[train]: row {index}", "00000000-set-train-row-0"),
        ("shard.tar: ../ü\x1b.jpg", "00000000"),
        ("x" * 300, "00000000-" + "x" * 60),
    ],
)
def test_keys_say_where_a_image_was_and_nothing_else(tmp_path, form, key):
    (path,) = write_shards(MemorySource([b""], [0], form=form), tmp_path / "a", "s")
    with tarfile.open(path) as archive:
        assert archive.getnames()[0] == f"{key}.cls"


def test_the_umask_s_readers_may_read(tmp_path):
    (path,) = write_shards(_source(1), tmp_path / "a", "s")
    mask = os.umask(0)
    os.umask(mask)
    assert Path(path).stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize(
    "secret",
    [
        b"password\n",
        b"",
        b"%PDF-1.7 ",
        b"#!/bin/sh\n",
        b"\x7fELF" + bytes(99),
        b"SQLite format 3\0",
        b"\xff\xd8\xff",
    ],
)
def test_no_bytes_but_those_of_images_are_copied(tmp_path, images, secret):
    contents = [image_bytes(form="PNG"), secret, image_bytes(form="JPEG")]
    with pytest.raises(DataError, match=r"^.*photo.*: (must be an image|cannot be read as an image)"):
        write_shards(MemorySource(contents, [0, 1, 0]), tmp_path / "train", "train")
    assert not list(tmp_path.iterdir())
    contents[1] = image_bytes(form="WEBP")
    write_shards(MemorySource(contents, [0, 1, 0]), tmp_path / "train", "train")
    assert len(ShardSource(tmp_path, "train")) == 3
