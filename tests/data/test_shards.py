"""Shards against the standard library's reader, and against what was put into them."""

import json
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from lambdanets.data.shard_index import _build_index, _index_places, read_index
from lambdanets.data.shards import ShardSource, _find_shards
from lambdanets.data.sources import Source
from lambdanets.errors import DataError, PathError
from support.archives import content, samples, write_tar


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """The user's caches, in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def test_images_and_classes_are_those_that_were_written(tmp_path):
    write_tar(tmp_path / "train/b.tar", samples([1, 0], first=3))
    write_tar(tmp_path / "train/a.tar", samples([2, 2, 0]))
    source = ShardSource(tmp_path, "train")
    assert isinstance(source, Source)
    assert [source.read(index) for index in range(len(source))] == [content(index) for index in range(5)]
    assert source.targets.tolist() == [2, 2, 0, 1, 0]
    assert source.labels == ("0", "1", "2")
    assert source.name(3) == "b.tar: 000003.jpg"
    assert [source.size(index) for index in range(5)] == [len(content(index)) for index in range(5)]
    assert source.shards == [tmp_path / "train/a.tar", tmp_path / "train/b.tar"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_places_are_those_of_the_standard_library(tmp_path, form):
    long = "/".join(["n" * 60] * (2 if form == tarfile.USTAR_FORMAT else 5))
    folder = tarfile.TarInfo("deep")
    folder.type = tarfile.DIRTYPE
    members = [(folder, b""), (f"{long}/x.cls", b"7"), (f"{long}/x.png", content(4)), *samples([3, 1])]
    extra = {"comment": "of all"} if form == tarfile.PAX_FORMAT else None
    path = write_tar(tmp_path / "a.tar", members, form=form, pax_headers=extra)
    index = _build_index(path)
    with tarfile.open(path) as archive:
        expected = [
            (member.name, member.offset_data, member.size)
            for member in archive
            if member.name.endswith(("jpg", "png"))
        ]
    assert list(zip(index.names, index.offsets, index.sizes, strict=True)) == expected
    assert index.labels == [7, 3, 1]


def test_a_pax_size_wins_over_the_header_s(tmp_path):
    header = tarfile.TarInfo("000000.jpg")
    header.pax_headers = {"size": str(len(content(0)))}
    path = write_tar(
        tmp_path / "a.tar", [("000000.cls", b"0"), (header, content(0))], form=tarfile.PAX_FORMAT
    )
    assert ShardSource(tmp_path, "a.tar").read(0) == content(0)
    assert path.exists()


def test_keys_end_at_the_first_dot_of_the_last_part(tmp_path):
    members = [
        ("./v1.0/a.cls", b"0"),
        ("./v1.0/a.JPG", b"first"),
        ("./v1.0/a.mask.png", b"no image of its own"),
        ("v1.0/b.jpeg", b"second"),
        ("README", b"no sample"),
        ("v1.0/._b.jpeg", b"neither"),
        ("v1.0/b.json", b'{"label": 1, "caption": "b"}'),
    ]
    write_tar(tmp_path / "a.tar", members)
    source = ShardSource(tmp_path, "a.tar")
    assert [source.read(0), source.read(1)] == [b"first", b"second"]
    assert source.targets.tolist() == [0, 1]


def test_classes_by_name_number_and_file(tmp_path):
    write_tar(tmp_path / "train/a.tar", samples(["dog", "cat", "dog"]))
    write_tar(tmp_path / "val/a.tar", samples(["cat", "cat"], kind="json"))
    train = ShardSource(tmp_path, "train")
    assert (train.labels, train.targets.tolist()) == (("cat", "dog"), [1, 0, 1])
    # Alone, the test would know one class.
    assert ShardSource(tmp_path, "val").labels == ("cat",)
    assert ShardSource(tmp_path, "val", train.labels).targets.tolist() == [0, 0]
    (tmp_path / "classes.txt").write_text("bird\ndog\ncat\n")
    assert ShardSource(tmp_path, "train").targets.tolist() == [1, 2, 1]
    assert ShardSource(tmp_path, "val").labels == ("bird", "dog", "cat")


def test_numbers_are_indices_into_names_but_names_of_their_own_without(tmp_path):
    write_tar(tmp_path / "a.tar", samples([10, 2, 10]))
    bare = ShardSource(tmp_path, "a.tar")
    assert (bare.labels, bare.targets.tolist()) == (("2", "10"), [1, 0, 1])
    (tmp_path / "classes.json").write_text(json.dumps({f"c{number}": number for number in range(12)}))
    named = ShardSource(tmp_path, "a.tar")
    assert named.labels[10] == "c10" and named.targets.tolist() == [10, 2, 10]


def test_a_class_that_there_is_not_is_named(tmp_path):
    write_tar(tmp_path / "a.tar", samples([0, 3]))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    message = r"shards: a.tar: 000001.jpg must be of one of 2 classes \('cat' to 'dog'\), got 3\."
    with pytest.raises(DataError, match=message):
        ShardSource(tmp_path, "a.tar")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("train", ["train/000.tar", "train/001.tar", "train/010.tar"]),
        ("train/0*.tar", ["train/000.tar", "train/001.tar", "train/010.tar"]),
        ("train/{000..001}.tar", ["train/000.tar", "train/001.tar"]),
        ("train/{0..1}0{0..0}.tar", None),
        ("train/0{0..1}0.tar", ["train/000.tar", "train/010.tar"]),
        ("train/00?.tar", ["train/000.tar", "train/001.tar"]),
        ("train/010.tar", ["train/010.tar"]),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    for name in ("000", "001", "010"):
        write_tar(tmp_path / f"train/{name}.tar", samples([0]))
    (tmp_path / "train/000.tar.index.json").write_text("{}")
    if expected is None:
        with pytest.raises(
            PathError, match=r"shards: .*\{0..0\}.tar must be there, got no .*train/100.tar\."
        ):
            _find_shards(tmp_path, pattern)
    else:
        assert _find_shards(tmp_path, pattern) == [tmp_path / name for name in expected]


def test_patterns_that_stand_for_nothing(tmp_path):
    with pytest.raises(PathError, match=r"shards: root must be a folder, got .*none, which is none\."):
        _find_shards(tmp_path / "none", "train")
    with pytest.raises(PathError, match=r"shards: .*train must be there, got no .*train\."):
        _find_shards(tmp_path, "train")
    message = r"shards: ranges of '\{5..2\}.tar' must stand for 1 to 1,000,000 names, got 0\."
    with pytest.raises(PathError, match=message):
        _find_shards(tmp_path, "{5..2}.tar")
    with pytest.raises(PathError, match=r"must stand for 1 to 1,000,000 names, got 10,000,000,000\."):
        _find_shards(tmp_path, "{00000..99999}-{00000..99999}.tar")
    write_tar(tmp_path / "a.tar", [])
    with pytest.raises(DataError, match=r"shards: .*a.tar must hold images, got 1 shards with none\."):
        ShardSource(tmp_path, "a.tar")


def test_the_index_is_made_once_and_again_for_another_shard(tmp_path, monkeypatch):
    shard = write_tar(tmp_path / "a.tar", samples([0, 1]))
    first = read_index(shard)
    assert _index_places(shard)[0] == tmp_path / "a.tar.index.json"
    assert _index_places(shard)[0].is_file()
    monkeypatch.setattr("lambdanets.data.shard_index._build_index", lambda shard: pytest.fail("made twice"))
    assert read_index(shard) == first
    monkeypatch.undo()
    write_tar(shard, samples([1, 1, 0]))
    assert read_index(shard).labels == [1, 1, 0]
    # The same bytes at another time may be other images.
    os.utime(shard, ns=(1, 1))
    assert read_index(shard).stamp.mtime_ns == 1


def test_an_index_of_a_read_only_folder_is_among_the_caches(tmp_path, caches, monkeypatch):
    shard = write_tar(tmp_path / "data/a.tar", samples([0, 1]))
    _refuse(monkeypatch, shard.parent)
    index = read_index(shard)
    assert [path.name for path in shard.parent.iterdir()] == ["a.tar"]
    (kept,) = caches.rglob("*.index.json")
    assert json.loads(kept.read_text())["names"] == index.names
    monkeypatch.setattr("lambdanets.data.shard_index._build_index", lambda shard: pytest.fail("made twice"))
    assert read_index(shard) == index


def test_without_any_place_the_index_is_made_each_time(tmp_path, caches, monkeypatch):
    shard = write_tar(tmp_path / "data/a.tar", samples([0, 1]))
    _refuse(monkeypatch, shard.parent, caches / "lambdanets/shards")
    assert read_index(shard).labels == [0, 1]
    assert not list(tmp_path.rglob("*index.json"))


def _refuse(monkeypatch, *folders):
    """Make folders refuse new files, also for a superuser."""
    real = os.open

    def refusing(path, flags, *mode):
        if flags & os.O_CREAT and Path(path).parent in folders:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refusing)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: "",
        lambda kept: "[" * 100_000,
        lambda kept: json.dumps([]),
        lambda kept: json.dumps(kept | {"format": 0}),
        lambda kept: json.dumps(kept | {"offsets": [0, 10**9]}),
        lambda kept: json.dumps(kept | {"offsets": [0, -5]}),
        lambda kept: json.dumps(kept | {"sizes": [1]}),
        lambda kept: json.dumps(kept | {"labels": [0, None]}),
        lambda kept: json.dumps(kept | {"labels": {"0": 1}}),
        lambda kept: json.dumps(kept | {"names": [1, 2]}),
        lambda kept: json.dumps(kept) + " " * 100_000,
    ],
)
def test_a_damaged_index_is_made_again(tmp_path, change):
    shard = write_tar(tmp_path / "a.tar", samples([0, 1]))
    index = read_index(shard)
    place = _index_places(shard)[0]
    place.write_text(change(json.loads(place.read_text())))
    assert read_index(shard) == index
    assert json.loads(place.read_text())["labels"] == [0, 1]


def _index_and_sum(root):
    return int(ShardSource(root, "train").targets.sum())


def test_any_number_of_processes_may_make_the_index_at_once(tmp_path):
    labels = [index % 7 for index in range(300)]
    for part in range(3):
        write_tar(tmp_path / f"train/{part}.tar", samples(labels[part::3], first=part))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        sums = pool.map(_index_and_sum, [tmp_path] * 6)
    assert sums == [sum(labels)] * 6
    assert len(list((tmp_path / "train").iterdir())) == 6


def test_another_process_opens_its_own_files(tmp_path):
    write_tar(tmp_path / "a.tar", samples([0, 1]))
    source = ShardSource(tmp_path, "a.tar")
    assert source.read(1) == content(1)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(1) == content(1) and copy.targets.equal(source.targets)


def _num_open():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_few_files_are_open_however_many_shards_there_are(tmp_path, monkeypatch):
    for number in range(12):
        write_tar(tmp_path / f"train/{number:02d}.tar", samples([0], first=number))
    monkeypatch.setattr("lambdanets.data.shards.os.sysconf", lambda name: 16)
    source = ShardSource(tmp_path, "train")
    before = _num_open()
    for _ in range(2):
        assert [source.read(index) for index in range(12)] == [content(index) for index in range(12)]
    assert _num_open() - before == 4
    del source
    assert _num_open() == before


def test_a_shard_that_changes_under_way_is_an_error_with_a_name(tmp_path):
    shard = write_tar(tmp_path / "a.tar", samples([0, 1]))
    source = ShardSource(tmp_path, "a.tar")
    write_tar(shard, samples([0, 1], first=5))
    message = r"^a.tar: 000001.jpg: its shard must stay as it was indexed, got another size or time\.$"
    with pytest.raises(DataError, match=message):
        source.read(1)
    shard.unlink()
    with pytest.raises(DataError, match=r"^a.tar: 000001.jpg: cannot be read: No such file or directory\.$"):
        source.read(1)


def test_a_shard_that_is_cut_off_while_open_is_an_error_with_a_name(tmp_path):
    shard = write_tar(tmp_path / "a.tar", samples([0, 1]))
    source = ShardSource(tmp_path, "a.tar")
    source.read(0)
    os.truncate(shard, _build_index(shard).offsets[1] + 100)
    with pytest.raises(DataError, match=r"^a.tar: 000001.jpg: must have 737 bytes, got 100\.$"):
        source.read(1)


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(
        PathError, match=r"shards: .*none.tar must be a file, got 'No such file or directory'\."
    ):
        read_index(tmp_path / "none.tar")
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(DataError, match=r"shards: .*folder.tar must be readable, got a folder\."):
        read_index(tmp_path / "folder.tar")
