"""Fingerprints of data: each change of each kind of data is found and named; none is found where none is."""

import shutil
import time
from dataclasses import replace

import pytest
import torch

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import DATA_SETS
from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.data.differences import data_changes
from lambdanets.data.digits import Digits, load_digits
from lambdanets.data.fingerprint import (
    fingerprint_part,
    fingerprint_task,
    sample_sizes,
)
from lambdanets.data.folders import FolderSource
from lambdanets.data.images import ImageTest
from lambdanets.data.left_out import LeftOut
from lambdanets.data.preprocessing import Preprocessing
from lambdanets.data.sources import PackedNames
from lambdanets.detection.data import load as load_objects
from lambdanets.errors import DataError
from lambdanets.reading import check_fields
from lambdanets.training.content import FINGERPRINT
from support.changed_data import COCO_CHANGES, FOLDER, KINDS, cases
from support.coco import write_data_set


def _made(config, seed=0):
    made = fingerprint_task(config.load(seed=seed, augment=AugmentConfig()))
    check_fields(made, FINGERPRINT["data"])
    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A data set of each kind."""
    roots = {name: tmp_path_factory.mktemp("data") / "set" for name in KINDS}
    for name, root in roots.items():
        KINDS[name].write(root)
    return roots


@pytest.mark.parametrize(("kind", "change"), cases())
def test_each_change_is_named_and_found_nowhere_else(kind, change, written, tmp_path):
    root = shutil.copytree(written[kind], tmp_path / "set")
    old = _made(KINDS[kind].config(root))
    apply, names, words = KINDS[kind].changes[change]
    apply(root)
    found = data_changes(old, _made(KINDS[kind].config(root)))
    assert tuple(found) == (("data.classes", "data.images") if names is None else names)
    assert words in "; ".join(found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_place_makes_no_difference(kind, written, tmp_path):
    elsewhere = shutil.copytree(written[kind], tmp_path / "elsewhere")
    assert _made(KINDS[kind].config(elsewhere)) == _made(KINDS[kind].config(written[kind]))


def test_a_holdout_and_an_order_of_its_images(written):
    config = replace(FOLDER.config(written["folder"]), holdout=0.5)
    assert _made(config) == _made(config)
    assert set(data_changes(_made(config), _made(replace(config, holdout=0.25)))) == {"data.images"}


def _objects(root):
    config = CocoConfig(root=str(root), train="train", test="val", image_size=32)
    task = load_objects(config, JitterConfig(), seed=0, masks=False, max_unreadable=5)
    check_fields(task.fingerprint, FINGERPRINT["data"])
    return task.fingerprint


@pytest.mark.parametrize("change", COCO_CHANGES)
def test_each_change_of_objects_is_named(change, tmp_path):
    write_data_set(tmp_path / "set")
    old = _objects(tmp_path / "set")
    apply, names, words = COCO_CHANGES[change]
    apply(tmp_path / "set")
    found = data_changes(old, _objects(tmp_path / "set"))
    assert tuple(found) == names
    assert words in "; ".join(found.values())


MADE = [name for name in DATA_SETS if name in ("digits", "semi", "relation", "pathfinder", "digit-images")]


@pytest.mark.parametrize("name", MADE)
def test_made_data_are_the_same_each_time_and_know_their_classes(name):
    first = _made(DATA_SETS[name]())
    assert first == _made(DATA_SETS[name]())
    assert sum(first["train"]["by_class"]) == first["train"]["images"]
    others = [_made(DATA_SETS[other]()) for other in MADE if other != name]
    assert all(data_changes(first, other) for other in others)


def test_the_seed_decides_which_digits_are_labelled():
    assert set(data_changes(_made(DATA_SETS["semi"]()), _made(DATA_SETS["semi"](), seed=1))) == {
        "data.images"
    }


def test_two_digits_that_are_exchanged_are_found():
    digits, _ = load_digits()
    places = torch.arange(len(digits))
    # Two of one class: the targets stay.
    first, second = torch.nonzero(digits.labels == 3)[:2, 0].tolist()
    places[[first, second]] = places[[second, first]]
    old, new = (fingerprint_part(one, 10) for one in (digits, Digits(digits.images[places], digits.labels)))
    assert old["by_class"] == new["by_class"] and old["digest"] != new["digest"]


def test_of_unknown_images_the_number_is_known():
    class Unknown:
        def __len__(self):
            return 7

    assert fingerprint_part(Unknown(), 3) == {"images": 7}


def test_a_file_that_cannot_be_read_now_is_not_compared():
    def size(index):
        if index == 1:
            raise DataError("gone")
        return index

    part = {"images": 3, "digest": "a", "by_class": [3], "sizes": sample_sizes(3, 1, size)}
    whole = {**part, "sizes": [0, 1, 2]}
    made = [{"classes": ["a"], "train": one, "test": one} for one in (part, whole)]
    assert data_changes(*made) == {}
    other = {"classes": ["a"], "train": whole, "test": {**whole, "sizes": [0, 1, 3]}}
    assert data_changes(made[0], other) == {"data.images": "test: equal names, other sizes of 1 of 2 files"}


@pytest.mark.parametrize(("num_files", "num_classes"), [(7, 2), (1000, 2), (100_000, 10), (50_000, 12_000)])
def test_some_files_of_each_class_are_asked_for_their_size(num_files, num_classes):
    asked = []
    sample_sizes(num_files, num_classes, lambda index: asked.append(index) or 1)
    assert len(asked) <= 4 * max(1_000, 2 * num_classes) and len(asked) == len(set(asked))
    of_class = {index * num_classes // num_files for index in asked}
    assert len(of_class) == num_classes


def test_a_hundred_thousand_names_take_no_minute(tmp_path):
    num = 100_000
    source = FolderSource(
        folder=tmp_path,
        labels=tuple(f"class {number}" for number in range(1000)),
        left_out=LeftOut(),
        targets=torch.arange(num) * 1000 // num,
        paths=PackedNames(b"class %d/%08d.jpg" % (number // 100, number) for number in range(num)),
    )
    data = ImageTest(source=source, preprocessing=Preprocessing(size=8, crop_fraction=1.0))
    started = time.process_time()
    part = fingerprint_part(data, 1000)
    # Without the checks of types in tests a tenth of a second.
    assert time.process_time() - started < 10
    assert part["by_class"] == [100] * 1000
