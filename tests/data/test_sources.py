"""Sources: parts of them, names of any bytes, and files that are read whole or not at all."""

import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.data import sources
from lambdanets.data.listing import image_key, set_aside
from lambdanets.data.sources import PackedNames, Source, Subset, holdout_split, read_file
from lambdanets.errors import ArgumentError, DataError
from lambdanets.text import printable


class Letters:
    """A source of single letters."""

    labels = ("vowel", "consonant")
    targets = torch.tensor([0, 1, 1, 1, 0])

    def __len__(self):
        return 5

    def name(self, index):
        return f"letter {index}"

    def relative_name(self, index):
        return b"%d" % index

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


def test_what_is_set_aside_is_about_the_fraction():
    keys = [b"%d.jpg" % number for number in range(10_000)]
    for fraction in (0.02, 0.2, 0.5):
        aside = set_aside(keys, [number % 5 for number in range(10_000)], fraction)
        assert sum(aside) == pytest.approx(
            10_000 * fraction, abs=4 * 100 * (fraction * (1 - fraction)) ** 0.5
        )


@given(
    num=st.integers(0, 60),
    more=st.integers(0, 60),
    num_classes=st.integers(1, 4),
    fraction=st.floats(0.01, 0.99),
)
def test_an_image_stays_on_its_side_when_others_are_added(num, more, num_classes, fraction):
    keys = [b"%d.jpg" % number for number in range(num + more)]
    classes = [number % num_classes for number in range(num + more)]
    before, after = (set_aside(keys[:count], classes[:count], fraction) for count in (num, num + more))
    moved = [index for index in range(num) if before[index] != after[index]]
    # Those alone that were taken so that a class had one on either side.
    assert len(moved) <= num_classes
    for label in set(classes):
        sides = [side for side, one in zip(after, classes, strict=True) if one == label]
        assert len(sides) < 2 or set(sides) == {True, False}
        assert len(sides) > 1 or sides == [False]


def test_the_order_and_the_place_of_the_data_do_not_matter():
    keys = [image_key("cat", b"%d.jpg" % number) for number in range(50)]
    aside = dict(zip(keys, set_aside(keys, ["cat"] * 50, 0.2), strict=True))
    backwards = set_aside(keys[::-1], ["cat"] * 50, 0.2)
    assert [aside[key] for key in keys[::-1]] == backwards
    assert image_key("cat", b"1.jpg") != image_key("dog", b"1.jpg")


def test_a_holdout_takes_each_image_once():
    letters = Letters()
    train, test = holdout_split(letters, 0.4)
    assert sorted([*train.tolist(), *test.tolist()]) == [0, 1, 2, 3, 4]
    assert {letters.labels[target] for target in letters.targets[test]} == {"vowel", "consonant"}
    one = Subset(letters, torch.tensor([2]))
    message = r"holdout_split: fraction must leave images on both sides, got 0\.4 of 1\."
    with pytest.raises(ArgumentError, match=message):
        holdout_split(one, 0.4)


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
        "pipe": r"N: cannot be read: a pipe\.",
        "": r"N: cannot be read: a folder\.",
        "large": r"N: cannot be read: 11 bytes, which is above 10\.",
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
