"""Pathfinder: pure images, paths that keep apart, and dots that alone say the class."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lambdanets.data.config import PathfinderConfig
from lambdanets.data.pathfinder import (
    _CLEARANCE,
    _DASH,
    _STEP,
    MARGIN,
    STD,
    _Pathfinder,
    load,
)
from lambdanets.errors import ArgumentError, DataError

SMALL = _Pathfinder()
FORMS = [
    SMALL,
    _Pathfinder(path_length=3, distractors=0),
    _Pathfinder(size=64, path_length=12, distractors=4),
]


def paths_of(form: _Pathfinder, num: int) -> list[np.ndarray]:
    return form.paths([(99, index) for index in range(num)])


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    indices=st.lists(st.integers(0, 8191), min_size=1, max_size=9),
)
@settings(max_examples=10, deadline=None)
def test_a_image_is_decided_by_seed_epoch_and_index(seed, epoch, indices) -> None:
    """Alone or beside others, whose paths may need more attempts."""
    data = load(PathfinderConfig(), seed).train
    images, labels, _ = data.batch(epoch, torch.tensor(indices))
    assert labels.tolist() == [index % 2 for index in indices]
    for image, index in zip(images, indices, strict=True):
        assert torch.equal(image, data.batch(epoch, torch.tensor([index])).images[0])


def test_large_batches_are_drawn_as_small_ones() -> None:
    data = load(PathfinderConfig(), 1).train
    indices = torch.randperm(300)
    whole = data.batch(2, indices).images
    parts = torch.cat([data.batch(2, part).images for part in indices.split(37)])
    assert torch.equal(whole, parts)
    assert whole.shape == (300, 1, 32, 32) and whole.dtype == torch.float32


def test_another_epoch_or_seed_has_other_images_in_another_order() -> None:
    indices = torch.arange(16)
    first, second = (load(PathfinderConfig(), seed).train for seed in (0, 1))
    assert not torch.equal(first.batch(0, indices).images, first.batch(1, indices).images)
    assert not torch.equal(first.batch(0, indices).images, second.batch(0, indices).images)
    assert sorted(first.order(3).tolist()) == list(range(len(first)))
    assert not torch.equal(first.order(0), first.order(1))


def test_the_test_is_balanced_and_its_own() -> None:
    test = load(PathfinderConfig(), 0).test
    labels = torch.cat([test.batch(part).targets for part in torch.arange(len(test)).split(400)])
    assert len(labels) == 1000 and labels.sum() == 500
    shown = load(PathfinderConfig(), 0).train.batch(0, torch.arange(20)).images
    assert not torch.equal(test.batch(torch.arange(20)).images, shown)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_paths_have_their_length_and_keep_apart(form: _Pathfinder) -> None:
    """Literally, joint by joint, in float64."""
    paths = [path.astype(np.float64) for path in paths_of(form, 12)]
    assert [path.shape[1] - 1 for path in paths[:2]] == [form.path_length] * 2
    assert [path.shape[1] - 1 for path in paths[2:]] == [form.path_length // 2] * form.distractors
    for image in range(12):
        joints = [
            (number, place, *path[:, place, image])
            for number, path in enumerate(paths)
            for place in range(path.shape[1])
        ]
        for first, one, *here in joints:
            assert all(MARGIN - 1e-4 <= side <= form.size - 1 - MARGIN + 1e-4 for side in here)
            for second, other, *there in joints:
                if first == second and abs(one - other) == 1:
                    assert math.dist(here, there) == pytest.approx(_STEP, abs=1e-4)
                elif (first, one) != (second, other):
                    assert math.dist(here, there) >= _CLEARANCE - 1e-4


def test_dots_lie_alike_in_both_classes() -> None:
    """As far from each other, and as far from the border and the middle: to a part of a pixel."""
    first, second, *_ = (path.astype(np.float64) for path in paths_of(SMALL, 3000))
    for measure in (
        lambda dot: np.hypot(*(dot - first[:, 0])),
        lambda dot: np.abs(dot - 15.5).max(axis=0),
        lambda dot: np.abs(dot - 15.5).min(axis=0),
        lambda dot: np.hypot(*(dot - 15.5)),
    ):
        joined, apart = measure(first[:, -1]), measure(second[:, 0])
        # Measured: 0.06 to 0.3 pixels, with standard errors below 0.1.
        assert abs(joined.mean() - apart.mean()) < 0.5
        assert joined.std() == pytest.approx(apart.std(), rel=0.25)


def test_the_classes_differ_in_one_dot_alone() -> None:
    seeds = [(5, index) for index in range(20)]
    apart, joined = (SMALL.draw(seeds, torch.full((20,), label)) * STD for label in (0, 1))
    first, second, *_ = SMALL.paths(seeds)
    for index in range(20):
        rows, columns = np.nonzero((apart - joined)[index, 0].abs().numpy() > 1e-6)
        near = [
            min(math.dist((row, column), path[:, place, index]) for path, place in ((first, -1), (second, 0)))
            for row, column in zip(rows, columns, strict=True)
        ]
        assert 0 < max(near) < 3


def test_ink_is_that_of_strokes_with_round_ends() -> None:
    """Every pixel of two images, with loops over strokes and math.hypot."""
    seeds, labels = [(7, 0), (7, 1)], torch.tensor([0, 1])
    paths = SMALL.paths(seeds)
    images = SMALL.draw(seeds, labels).double() * STD
    for index in range(2):
        strokes = []
        for path in paths:
            for place in range(path.shape[1] - 1):
                here, there = (path[:, at, index].astype(float) for at in (place, place + 1))
                gap = (_STEP - _DASH) / 2 / _STEP
                strokes.append((here + gap * (there - here), there - gap * (there - here), 0.5))
        other = paths[0][:, -1, index] if index else paths[1][:, 0, index]
        strokes += [(dot.astype(float), dot.astype(float), 1.6) for dot in (paths[0][:, 0, index], other)]
        for row in range(32):
            for column in range(32):
                ink = sum(
                    max(0, min(1, radius + 0.5 - _distance((row, column), a, b))) for a, b, radius in strokes
                )
                assert images[index, 0, row, column].item() == pytest.approx(min(ink, 1), abs=1e-4)


def _distance(point, start, end) -> float:
    way, here = end - start, np.array(point) - start
    share = min(1, max(0, here @ way / (way @ way))) if way @ way else 0
    return math.hypot(*(here - share * way))


@pytest.mark.slow
def test_simple_statistics_do_not_tell_the_class() -> None:
    """Ink, its rows and columns, and what a linear model makes of all pixels: no better than chance."""
    data = load(PathfinderConfig(), 0).train
    images, labels, _ = data.batch(0, torch.arange(4000))
    pixels = images[:, 0].numpy()
    features = {
        "ink": pixels.sum(axis=(1, 2))[:, None],
        "rows and columns": np.concatenate([pixels.sum(axis=1), pixels.sum(axis=2)], axis=1),
        "blurred": pixels.reshape(4000, 8, 4, 8, 4).sum(axis=(2, 4)).reshape(4000, -1),
        "squares": np.sort(pixels.reshape(4000, -1), axis=1)[:, ::16],
    }
    for name, values in features.items():
        values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
        model = LogisticRegression(C=0.01, max_iter=100).fit(values[:2500], labels[:2500])
        # The standard deviation of chance is 1.3 %; where the dots lie gives away about 2 %.
        assert abs(model.score(values[2500:], labels[2500:]) - 0.5) < 0.05, name


def test_paths_and_dots_are_equally_many_in_both_classes() -> None:
    data = load(PathfinderConfig(), 3).train
    images, labels, _ = data.batch(0, torch.arange(2000))
    ink = (images * STD).sum(dim=(1, 2, 3)).double()
    difference = ink[labels == 0].mean() - ink[labels == 1].mean()
    # A dot may lie on its own path's next dash; a standard error of the difference is 0.05.
    assert difference.abs() < 0.2
    assert images.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("form", [_Pathfinder(size=32, path_length=2, distractors=0), _Pathfinder(size=128)])
def test_sizes_and_lengths(form: _Pathfinder) -> None:
    assert form.draw([(1, 0)], torch.tensor([1])).shape == (1, 1, form.size, form.size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"distractors": 4},
            "size must be at least 34 pixels for paths of 6 dashes and 4 distractors, got 32",
        ),
        (
            {"path_length": 9},
            "size must be at least 35 pixels for paths of 9 dashes and 2 distractors, got 32",
        ),
        ({"path_length": 1}, "path_length must be at least 2, got 1"),
    ],
)
def test_what_has_no_room_is_named(settings, message) -> None:
    with pytest.raises(ArgumentError, match=rf"^Pathfinder: {message}\.$"):
        _Pathfinder(**settings)


def test_a_search_for_room_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    form = _Pathfinder()
    whole_attempt = _Pathfinder._attempt

    def failed(self, numbers):
        paths, whole = whole_attempt(self, numbers)
        return paths, np.zeros_like(whole)

    monkeypatch.setattr(_Pathfinder, "_attempt", failed)
    with pytest.raises(
        DataError, match=r"paths must find room, got none for 1 images in 100 rounds of attempts\."
    ):
        form.draw([(1, 0)], torch.tensor([1]))
