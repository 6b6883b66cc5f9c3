"""Sources: parts of them, names of any bytes, and files that are read whole or not at all."""

import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.data import sources
from lambdanets.data.sources import PackedNames, Source, Subset, holdout_split, printable, read_file
from lambdanets.errors import ArgumentError, DataError


class Letters:
    """A source of single letters."""

    labels = ("vowel", "consonant")
    targets = torch.tensor([0, 1, 1, 1, 0])

    def __len__(self):
        return 5

    def name(self, index):
        return f"letter {index}"

    def read(self, index):
        return b"abcde"[index : index + 1]


def test_a_class_with_these_members_is_a_source():
    assert isinstance(Letters(), Source)
    assert isinstance(Subset(Letters(), torch.arange(2)), Source)
    assert not isinstance([b"a"], Source)


def test_a_subset_holds_what_its_indices_say():
    part = Subset(Letters(), torch.tensor([4, 1]))
    assert (len(part), part.labels, part.targets.tolist()) == (2, ("vowel", "consonant"), [0, 1])
    assert [part.read(index) for index in range(2)] == [b"e", b"b"]
    assert [part.name(index) for index in range(2)] == ["letter 4", "letter 1"]


@given(num=st.integers(2, 400), share=st.floats(0.001, 0.999))
def test_a_holdout_is_even_and_takes_each_image_once(num, share):
    if not 0 < round(share * num) < num:
        with pytest.raises(
            ArgumentError, match=r"holdout_split: fraction must leave images on both sides, got"
        ):
            holdout_split(num, share)
        return
    train, test = holdout_split(num, share)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(num))
    assert len(test) == round(share * num)
    # Spread evenly: any stretch of the order has its share of the test, to within one image.
    for start in range(0, num, 7):
        for stop in range(start, num + 1, 11):
            held = sum(start <= index < stop for index in test.tolist())
            assert abs(held - (stop - start) * len(test) / num) <= 1


@given(st.lists(st.binary(max_size=12), max_size=20))
def test_packed_names_are_the_names(names):
    packed = pickle.loads(pickle.dumps(PackedNames(names)))
    assert len(packed) == len(names)
    assert [packed[index] for index in range(len(names))] == names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"x\xc3\xa9", "xé"),
        (b"x\xe9", "x\\xe9"),
        ("猫", "猫"),
        ("two\nlines", "two\\x0alines"),
        ("\udce9", "\\udce9"),
    ],
)
def test_any_name_can_be_printed_and_encoded(name, expected):
    assert printable(name) == expected
    assert printable(name).encode()


def test_files_are_read_whole(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(256)) * 1000)
    assert read_file(os.fsencode(tmp_path / "x"), "x") == bytes(range(256)) * 1000


def test_what_is_no_image_s_file_is_refused_by_name(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    for name, message in {
        "pipe": r"N: must be a file, got a folder, a pipe or a device\.",
        "": r"N: must be a file, got a folder, a pipe or a device\.",
        "large": r"N: must have at most 10 bytes, got 11\.",
        "none": r"N: cannot be read: No such file or directory\.",
        "loop": r"N: cannot be read: Too many levels of symbolic links\.",
    }.items():
        with pytest.raises(DataError, match=message):
            read_file(os.fsencode(tmp_path / name), "N")


def test_no_file_stays_open(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(50):
        read_file(os.fsencode(tmp_path / "x"), "x")
        with pytest.raises(DataError):
            read_file(os.fsencode(tmp_path), "folder")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
