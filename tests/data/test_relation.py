"""The relation: pure images, marks that say nothing alone, and networks that cannot or can see the pair."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdanets import create_model
from lambdanets.data.relation import (
    _OFFSET,
    MARGIN,
    SIZE,
    STD,
    draw,
    load,
    places,
)

TRAIN, TEST = places()
TEST_DATA = load(seed=0).test


def training(seed: int):
    return load(seed).train


def marks(image: torch.Tensor) -> list[tuple[int, int]]:
    return [tuple(place) for place in image[0].nonzero().tolist()]


def is_related(image: torch.Tensor) -> bool:
    first, second = sorted(marks(image), key=lambda place: place[1])
    return (second[0] - first[0], second[1] - first[1]) == _OFFSET


def test_places_of_the_test_are_never_shown_in_training() -> None:
    assert (len(TRAIN), len(TEST)) == (65, 16)
    assert not set(TRAIN) & set(TEST)
    height, width = SIZE
    for row, column in (*TRAIN, *TEST):
        assert MARGIN <= row < row + _OFFSET[0] < height - MARGIN
        assert MARGIN <= column < column + _OFFSET[1] < width - MARGIN


@pytest.mark.parametrize("where", [TRAIN, TEST], ids=["training", "test"])
def test_marks_by_themselves_say_nothing(where) -> None:
    """The mean of all related images is that of all that are apart: each mark is as often anywhere."""
    related = torch.stack([draw(place, place) for place in where]).double().mean(dim=0)
    apart = torch.stack([draw(*pair) for pair in itertools.permutations(where, 2)]).double().mean(dim=0)
    torch.testing.assert_close(apart, related, atol=1e-12, rtol=0)


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    indices=st.lists(st.integers(0, 1919), min_size=1, max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_a_image_is_decided_by_seed_epoch_and_index(seed, epoch, indices) -> None:
    data = training(seed)
    images, labels, _ = data.batch(epoch, torch.tensor(indices))
    assert labels.tolist() == [index % 2 for index in indices]
    for image, label, index in zip(images, labels, indices, strict=True):
        assert torch.equal(image, data.batch(epoch, torch.tensor([index]))[0][0])
        assert len(marks(image)) == 2
        assert is_related(image) == bool(label)


def test_another_epoch_or_seed_has_other_images_in_another_order() -> None:
    indices = torch.arange(32)
    first = training(0)
    assert not torch.equal(first.batch(0, indices)[0], first.batch(1, indices)[0])
    assert not torch.equal(first.batch(0, indices)[0], training(1).batch(0, indices)[0])
    assert sorted(first.order(3).tolist()) == list(range(len(first)))
    assert not torch.equal(first.order(0), first.order(1))


def test_the_test_is_balanced_and_uses_its_own_places() -> None:
    batches = [TEST_DATA.batch(part) for part in torch.arange(480).split(200)]
    assert [len(labels) for _, labels, _ in batches] == [200, 200, 80]
    images = torch.cat([images for images, _, _ in batches])
    labels = torch.cat([labels for _, labels, _ in batches])
    assert labels.sum() == 240
    assert [is_related(image) for image in images] == labels.bool().tolist()
    firsts = {min(marks(image), key=lambda place: place[1]) for image in images}
    assert firsts == set(TEST)


def test_pixels_have_unit_variance() -> None:
    image = draw(TRAIN[0], TRAIN[1]).double()
    assert image.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert image.max().item() == pytest.approx(1 / STD)


def scores(**options: object) -> torch.Tensor:
    torch.manual_seed(1)
    model = create_model("lambda_resnet_relation", num_classes=2, in_channels=1, **options).double().eval()
    images, *_ = TEST_DATA.batch(torch.arange(480))
    with torch.no_grad():
        return model(images.double())


@pytest.mark.slow
def test_without_positions_every_image_has_the_same_score() -> None:
    """Content lambdas are blind to order: 50 % is what they can reach, whatever the training."""
    blind = scores(positional=False)
    assert (blind - blind[0]).abs().max() < 1e-12 * blind.abs().max()
    sighted = scores()
    assert (sighted - sighted[0]).abs().max() > 1e-3 * sighted.abs().max()


def test_no_unit_of_the_convolutions_sees_both_marks() -> None:
    model = create_model("resnet_relation", num_classes=2, in_channels=1).double().eval()
    image = torch.randn(1, 1, *SIZE, dtype=torch.float64, requires_grad=True)
    model.features(image)["c5"][0, :, 10, 14].sum().backward()
    rows, columns = image.grad[0, 0].nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (11, 11)
    assert _OFFSET[1] >= 11
