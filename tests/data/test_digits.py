"""The bundled digits: the split, motion as a pure function of (seed, epoch, index), few labels, files."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lambdanets.data import digits as module
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import DigitsConfig, SemiConfig
from lambdanets.data.digits import (
    MEAN,
    STD,
    Digits,
    _DigitSource,
    _MovedDigits,
    load_digits,
    load_semi,
    normalize,
)
from lambdanets.data.sources import Source
from lambdanets.errors import DataError, DependencyError

TRAIN, TEST = load_digits()


def _augmented(seed=0, **amounts):
    config = DigitsConfig(**{"max_shift": 0.7, "max_rotation": 12.0, **amounts})
    return _MovedDigits(digits=TRAIN, seed=seed, config=config)


def test_the_last_500_in_stored_order_are_the_test():
    from sklearn.datasets import load_digits as load_bundled

    bundled = load_bundled()
    assert (len(TRAIN), len(TEST)) == (1297, 500)
    stored = torch.cat([TRAIN.images, TEST.images]).squeeze(1) * 16
    assert np.array_equal(stored.numpy(), bundled.images)
    assert torch.cat([TRAIN.labels, TEST.labels]).tolist() == bundled.target.tolist()


def test_the_constants_normalise_the_training_images():
    pixels = TRAIN.images.double()
    assert pixels.mean().item() == pytest.approx(MEAN, abs=5e-5)
    assert pixels.std(correction=0).item() == pytest.approx(STD, abs=5e-5)


def test_batches_hold_each_test_image_once():
    batches = [TEST.batch(part) for part in torch.arange(len(TEST)).split(150)]
    assert [len(labels) for _, labels, _ in batches] == [150, 150, 150, 50]
    assert torch.equal(torch.cat([images for images, _, _ in batches]), normalize(TEST.images))


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10**6))
@settings(max_examples=30)
def test_an_order_is_a_permutation_decided_by_seed_and_epoch(seed, epoch):
    order = _augmented(seed).order(epoch)
    assert sorted(order.tolist()) == list(range(1297))
    assert torch.equal(order, _augmented(seed).order(epoch))
    assert not torch.equal(order, _augmented(seed).order(epoch + 1))
    assert not torch.equal(order, _augmented(seed + 1).order(epoch))


@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 10**6),
    indices=st.lists(st.integers(0, 1296), min_size=1, max_size=9),
)
@settings(max_examples=40, deadline=None)
def test_a_image_does_not_depend_on_its_company(seed, epoch, indices):
    data = _augmented(seed, max_scaling=0.2)
    images, labels, _ = data.batch(epoch, torch.tensor(indices))
    assert torch.equal(labels, TRAIN.labels[indices])
    for image, index in zip(images, indices, strict=True):
        assert torch.equal(image, data.batch(epoch, torch.tensor([index]))[0][0])


def test_epoch_index_and_seed_each_change_the_image():
    first = _augmented().batch(0, torch.tensor([5]))[0]
    assert not torch.equal(first, _augmented().batch(1, torch.tensor([5]))[0])
    assert not torch.equal(first, _augmented(seed=1).batch(0, torch.tensor([5]))[0])
    same = Digits(TRAIN.images[[5, 5]], TRAIN.labels[[5, 5]])
    pair = replace(_augmented(), digits=same).batch(0, torch.tensor([0, 1]))[0]
    assert not torch.equal(pair[0], pair[1])


def test_without_motion_images_stay_as_they_are():
    indices = torch.arange(40)
    images, *_ = _augmented(seed=3, max_shift=0.0, max_rotation=0.0).batch(7, indices)
    torch.testing.assert_close(images, normalize(TRAIN.images[indices]), atol=1e-6, rtol=0)


def test_a_shift_moves_the_ink_by_whole_pixels(monkeypatch):
    class Always:
        def uniform(self, low, high, size):
            return np.array([0.0, 0.0, 0.0, 1.0, -1.0])

    monkeypatch.setattr(module, "generator", lambda *words: Always())
    images, *_ = _augmented(max_shift=2.0, max_rotation=0.0).batch(0, torch.tensor([0]))
    expected = torch.zeros(8, 8)
    expected[2:, :-2] = TRAIN.images[0, 0][:-2, 2:]
    torch.testing.assert_close(images, normalize(expected[None, None]), atol=1e-5, rtol=0)


def test_half_a_turn_is_the_image_upside_down(monkeypatch):
    class Always:
        def uniform(self, low, high, size):
            return np.array([1.0, 0.0, 0.0, 0.0, 0.0])

    monkeypatch.setattr(module, "generator", lambda *words: Always())
    images, *_ = _augmented(max_rotation=180.0).batch(0, torch.tensor([3]))
    torch.testing.assert_close(images, normalize(TRAIN.images[3:4]).flip(2, 3), atol=1e-5, rtol=0)


def test_another_data_set_is_refused(monkeypatch):
    import sklearn.datasets

    class Other:
        images = np.zeros((3, 8, 8))

    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: Other)
    with pytest.raises(DataError, match=r"images must have shape \(1797, 8, 8\), got \(3, 8, 8\)\."):
        load_digits()


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        DependencyError, match=r"scikit-learn must be installed, got none\. pip install scikit-learn\."
    ):
        load_digits()


@pytest.mark.parametrize("seed", [0, 12345])
def test_semi_puts_each_digit_into_one_part(seed):
    task = SemiConfig().load(seed=seed, augment=AugmentConfig())
    labelled, unlabelled = task.train.digits, task.unlabelled.clean
    assert (len(labelled), len(unlabelled), len(task.test)) == (200, 1097, 500)
    assert labelled.labels.bincount().tolist() == [20] * 10
    assert task.unlabelled.shown.digits is unlabelled and task.unlabelled.targets is unlabelled.labels

    def rows(digits):
        return [
            (label, *image)
            for label, image in zip(digits.labels.tolist(), digits.images.flatten(1).tolist(), strict=True)
        ]

    assert sorted([*rows(labelled), *rows(unlabelled)]) == sorted(rows(TRAIN))


def test_the_seed_decides_which_digits_are_labelled():
    first, again, other = (load_semi(SemiConfig(), seed).train.digits.images for seed in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_digits_are_files_of_four_times_the_size():
    source = _DigitSource(TEST)
    assert isinstance(source, Source)
    assert (len(source), source.labels[3], source.name(7)) == (500, "3", "digit 7")
    assert torch.equal(source.targets, TEST.labels)
    for index in (0, 123, 499):
        with Image.open(io.BytesIO(source.read(index)), formats=["PNG"]) as image:
            pixels = np.asarray(image).astype(float) / 255
        each = TEST.images[index, 0].repeat_interleave(4, 0).repeat_interleave(4, 1)
        assert pixels.shape == (32, 32) and np.abs(pixels - each.numpy()).max() <= 0.5 / 255 + 1e-6
