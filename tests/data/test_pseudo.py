"""Pseudo-labels: what a folder holds, and batches of both kinds."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdanets.data.pseudo import MANIFEST, SELECTED, MixedTraining, PseudoLabels, shard_name
from lambdanets.data.task import TrainingData
from lambdanets.errors import ArgumentError, DataError, PathError
from support.pseudo import write_folder
from support.training import NUM_CLASSES, TinyData


@given(indices=st.lists(st.integers(0, 6), min_size=1, max_size=20).map(sorted))
@settings(max_examples=50, deadline=None)
def test_occurrences_are_counted(tmp_path_factory, indices) -> None:
    folder = tmp_path_factory.mktemp("pseudo") / "labels"
    pseudo = write_folder(folder, torch.full((7, 4), 0.25), indices)
    assert pseudo.occurrences.tolist() == [indices[:place].count(one) for place, one in enumerate(indices)]


@pytest.fixture
def shares() -> torch.Tensor:
    return torch.randn(23, NUM_CLASSES).softmax(dim=1)


@pytest.mark.parametrize("hard", [False, True])
def test_a_label_is_what_the_teacher_said(hard: bool, shares: torch.Tensor, tmp_path: Path) -> None:
    indices = [0, 3, 3, 6, 7, 13, 22, 22, 22]
    pseudo = write_folder(tmp_path / "labels", shares, indices, hard=hard)
    entries = torch.tensor([8, 0, 3, 2, 4])
    expected = shares[torch.tensor([22, 0, 6, 3, 7])]
    assert torch.equal(pseudo.targets(entries), expected.argmax(dim=1) if hard else expected)
    assert len(pseudo) == 9 and pseudo.soft == (not hard)
    # As a worker process that is spawned gets them.
    again = pickle.loads(pickle.dumps(pseudo))
    assert torch.equal(again.targets(entries), pseudo.targets(entries))


def mixed(
    path: Path, shares: torch.Tensor, *, ratio: float = 1.5, hard: bool = False, indices=None, seed: int = 0
):
    pseudo = write_folder(path, shares, indices or [0, 2, 2, 2, 5, 9, 9, 21], hard=hard)
    return MixedTraining(
        labelled=TinyData(num=30), unlabelled=TinyData(num=23), pseudo=pseudo, ratio=ratio, seed=seed
    )


@given(ratio=st.floats(0.1, 7), num_parts=st.integers(1, 40), epoch=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_each_batch_has_the_ratio_to_within_one_image(tmp_path_factory, ratio, num_parts, epoch) -> None:
    data = mixed(tmp_path_factory.mktemp("mixed") / "labels", torch.full((23, 4), 0.25), ratio=ratio)
    assert isinstance(data, TrainingData)
    order = data.order(epoch)
    assert sorted(order.tolist()) == list(range(len(data)))
    assert len(data) == 30 + round(30 * ratio)
    share = round(30 * ratio) / len(data)
    for part in order.tensor_split(num_parts):
        assert abs((part >= 30).sum().item() - share * len(part)) < 1
        # So does the part of each of two processes.
        for piece in part.tensor_split(2):
            assert abs((piece >= 30).sum().item() - share * len(piece)) < 1
    assert order[order < 30].tolist() == data.labelled.order(epoch).tolist()


def test_pseudo_labelled_images_pass_in_turn_over_all_epochs(shares, tmp_path: Path) -> None:
    """45 an epoch, of 8 labels: every 8 in a row are all of them."""
    indices = [0, 2, 2, 2, 5, 9, 9, 21]
    data = mixed(tmp_path / "labels", shares, indices=indices)
    passed: list[int] = []
    for epoch in range(8):
        data.unlabelled.seen.clear()
        for index in range(30, len(data)):
            data.batch(epoch, torch.tensor([index]))
        passed += [one for _, several in data.unlabelled.seen for one in several]
    assert len(passed) == 8 * 45
    for start in range(0, len(passed), 8):
        assert sorted(passed[start : start + 8]) == indices
    orders = {tuple(passed[start : start + 8]) for start in range(0, len(passed), 8)}
    assert len(orders) > 10


def test_a_image_that_a_pass_repeats_looks_different(shares, tmp_path: Path) -> None:
    data = mixed(tmp_path / "labels", shares)
    for epoch in range(4):
        data.batch(epoch, torch.arange(30, len(data)))
    shown = [(epoch, one) for epoch, several in data.unlabelled.seen for one in several]
    assert len(shown) == len(set(shown)) == 180


@pytest.mark.parametrize("hard", [False, True])
def test_a_batch_is_decided_by_epoch_and_index(hard: bool, shares, tmp_path: Path) -> None:
    data = mixed(tmp_path / "labels", shares, hard=hard)
    indices = data.order(3)[:20]
    images, targets, _ = data.batch(3, indices)
    assert targets.dtype == (torch.int64 if hard else torch.float32)
    for image, target, index in zip(images, targets, indices, strict=True):
        alone = data.batch(3, index[None])
        assert torch.equal(alone.images[0], image) and torch.equal(alone.targets[0], target)
        if index < 30:
            own = data.labelled.batch(3, index[None])
            assert torch.equal(own.images[0], image)
            label = own.targets[0]
            assert torch.equal(target, label if hard else torch.eye(NUM_CLASSES)[label])
    assert not torch.equal(data.batch(4, indices).images, images)


def test_the_seed_decides_the_order_of_the_labels(shares, tmp_path: Path) -> None:
    seen = []
    for seed in (0, 1):
        data = mixed(tmp_path / str(seed), shares, seed=seed)
        for index in range(30, 46):
            data.batch(0, torch.tensor([index]))
        seen.append([one for _, several in data.unlabelled.seen for one in several])
    assert seen[0] != seen[1]


def test_labels_that_do_not_belong_to_the_images_are_refused(shares, tmp_path: Path) -> None:
    pseudo = write_folder(tmp_path / "labels", shares, [1, 2])
    words = {
        "labelled": TinyData(),
        "unlabelled": TinyData(num=23),
        "pseudo": pseudo,
        "ratio": 1.0,
        "seed": 0,
    }
    with pytest.raises(
        DataError, match=r"unlabelled must hold the 23 images that .*labels has labels for, got 22\."
    ):
        MixedTraining(**{**words, "unlabelled": TinyData(num=22)})
    with pytest.raises(
        ArgumentError, match=r"ratio must put at least one .* into an epoch of 30, got 0\.001\."
    ):
        MixedTraining(**{**words, "ratio": 0.001})
    empty = write_folder(tmp_path / "empty", shares, [])
    with pytest.raises(
        DataError, match=r"MixedTraining: pseudo must hold labels, got none kept in .*empty\."
    ):
        MixedTraining(**{**words, "pseudo": empty})


def test_a_folder_that_is_not_finished_or_damaged_is_refused(shares, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    write_folder(folder, shares, [1, 2])
    with pytest.raises(
        PathError, match=r"must be a finished folder of `lambdanets pseudo label`, got no manifest\.json"
    ):
        PseudoLabels.open(tmp_path)
    shard = folder / shard_name(1)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(
        DataError, match=rf"must have {len(whole)} bytes, as manifest\.json says, got {len(whole) - 1}\."
    ):
        PseudoLabels.open(folder)
    shard.unlink()
    with pytest.raises(DataError, match=r"must hold whole labels, got .*No such file.*Label again\."):
        PseudoLabels.open(folder)
    shard.write_bytes(whole)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": {}}))
    (folder / SELECTED).write_bytes(b"no")
    with pytest.raises(DataError, match=r"must hold whole labels, got .*Label again\."):
        PseudoLabels.open(folder)
