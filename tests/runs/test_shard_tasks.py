"""Tasks of shards and of Hugging Face sets: the same images as the folder they come from."""

import sys
from dataclasses import replace

import pytest
import torch

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.check import find_files, shard_data
from lambdanets.data.config import read_data_config
from lambdanets.data.shards import ShardSource
from lambdanets.errors import ArgumentError, DataError, DependencyError
from lambdanets.recipes import get_recipe
from lambdanets.runs.tasks import load_task
from lambdanets.training.loader import load_batches
from support.archives import image_bytes, samples, write_tar
from support.datasets import images_and_classes, stand_in
from support.images import make_folder


def config(**data):
    return replace(get_recipe("digits"), data=read_data_config(data))


@pytest.fixture
def roots(tmp_path):
    """A folder, and the same images in shards of four."""
    make_folder(tmp_path / "folder/train", ["ant", "bee", "cat"], each=5)
    make_folder(tmp_path / "folder/val", ["bee", "cat"], each=2)
    shard_data(find_files(str(tmp_path / "folder")), tmp_path / "shards", max_count=4)
    return tmp_path


def test_shards_show_what_their_folder_shows(roots):
    folder, shards = (
        load_task(
            replace(
                config(name=name, root=str(roots / root), image_size=24),
                augment=AugmentConfig(randaugment_layers=1),
            )
        )
        for name, root in (("folder", "folder"), ("shards", "shards"))
    )
    assert folder.labels == shards.labels == ("ant", "bee", "cat")
    assert len(shards.train.source.shards) == 4
    indices = torch.arange(15)
    ours, theirs = shards.train.batch(3, indices), folder.train.batch(3, indices)
    assert ours.images.equal(theirs.images) and ours.targets.equal(theirs.targets)
    ours, theirs = shards.test.batch(torch.arange(4)), folder.test.batch(torch.arange(4))
    assert ours.images.equal(theirs.images) and ours.targets.tolist() == [1, 1, 2, 2]


def test_any_number_of_workers_gives_the_same_batches(roots):
    task = load_task(config(name="shards", root=str(roots / "shards"), image_size=16))
    order = task.train.order(0)
    expected = [task.train.batch(0, part) for part in order.split(4)]
    for num_workers in (1, 2):
        calls = ((0, part) for part in order.split(4))
        found = list(load_batches(task.train, calls, num_workers))
        assert all(one.images.equal(other.images) for one, other in zip(found, expected, strict=True))
        assert all(one.targets.equal(other.targets) for one, other in zip(found, expected, strict=True))


def test_images_are_224_wide_where_nothing_is_said(roots):
    task = load_task(config(name="shards", root=str(roots / "shards")))
    assert task.train.batch(0, torch.arange(2)).images.shape == (2, 3, 224, 224)
    assert task.in_channels == 3 and task.preprocessing.size == 224


def test_what_is_held_out_is_spread_over_the_shards(tmp_path):
    """As much as 20 of 1024 shards, the fraction that the paper tunes on."""
    for number in range(64):
        write_tar(tmp_path / f"train-{number:04d}.tar", samples([number % 8] * 16))
    task = load_task(
        config(name="shards", root=str(tmp_path), train="train-{0000..0063}.tar", holdout=20 / 1024)
    )
    test = task.test.source
    assert len(task.train) + len(test) == 1024 and 12 <= len(test) <= 30
    assert len({test.name(index).partition(":")[0] for index in range(len(test))}) > 10
    assert set(test.targets.tolist()) == set(range(8))
    names = [{part.name(index) for index in range(len(part))} for part in (task.train.source, test)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 1024


def test_the_test_has_the_classes_of_the_training(tmp_path):
    write_tar(tmp_path / "train/a.tar", samples(["dog", "cat"]))
    write_tar(tmp_path / "val/a.tar", samples(["dog"]))
    task = load_task(config(name="shards", root=str(tmp_path)))
    assert task.test.source.targets.tolist() == [1]
    assert isinstance(task.test.source, ShardSource)
    write_tar(tmp_path / "val/a.tar", samples(["fish"]))
    message = r"shards: a.tar: 000000.jpg must be of one of 2 classes \('cat' to 'dog'\), got 'fish'\."
    with pytest.raises(DataError, match=message):
        load_task(config(name="shards", root=str(tmp_path)))


def test_a_hugging_face_set(monkeypatch):
    library = stand_in()
    monkeypatch.setitem(sys.modules, "datasets", library)
    rows = [{"bytes": image_bytes(seed), "path": None} for seed in range(4)]
    library.given["train"] = images_and_classes(rows, [0, 1, 1, 0])
    library.given["validation"] = images_and_classes(rows[:2], [0, 1])
    task = load_task(config(name="huggingface", root="pets", test="validation", image_size=16))
    assert (task.labels, len(task.train), len(task.test)) == (("cat", "dog"), 4, 2)
    batch = task.train.batch(0, torch.tensor([2, 0]))
    assert batch.targets.tolist() == [1, 0] and batch.images.shape == (2, 3, 16, 16)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyError, match=r"pip install datasets\."):
        load_task(config(name="huggingface", root="pets"))


@pytest.mark.parametrize(("name", "kind"), [("shards", "ShardsConfig"), ("huggingface", "HuggingFaceConfig")])
def test_the_root_must_be_given(name, kind):
    with pytest.raises(ArgumentError, match=rf"{kind}: root must be given, got none\."):
        load_task(config(name=name))
