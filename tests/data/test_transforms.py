"""Transforms against torchvision, Pillow and formulas; what is drawn follows from the words alone."""

import math
import pickle
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.seeds import Purpose
from lambdanets.data.transforms import TrainTransform, _crop_box, mix, seeded
from lambdanets.errors import DependencyError
from support.images import photo

PHOTO = Image.fromarray(photo(97, 61, seed=3))


# Beartype looks at random items of lists, so it draws numbers of its own: `unchecked` keeps it away.
def global_states():
    return np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    min_area=st.floats(0.01, 1),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=22, max_size=22),
)
def test_a_crop_lies_in_the_image_and_has_what_was_asked_for(width, height, min_area, draws):
    left, above, right, below = _crop_box(width, height, min_area, draws)
    assert 0 <= left < right <= width and 0 <= above < below <= height
    # Half a pixel of rounding on each side; an image too narrow is taken as it is.
    part_width, part_height = right - left, below - above
    if part_width < width and part_height < height:
        assert (part_width + 0.5) * (part_height + 0.5) >= min_area * width * height * 0.999
        assert (part_width - 0.5) / (part_height + 0.5) <= 4 / 3 <= 4 / 3 * 1.001
        assert (part_width + 0.5) / max(part_height - 0.5, 1e-9) >= 3 / 4


def test_crops_are_distributed_as_torchvision_s():
    from torchvision.transforms import v2

    height, width, num = 300, 420, 4000
    theirs = v2.RandomResizedCrop(8, scale=(0.08, 1), ratio=(3 / 4, 4 / 3))
    image = torch.empty(1, height, width)
    boxes = [theirs.make_params([image]) for _ in range(num)]
    expected = np.array([[box["left"], box["top"], box["width"], box["height"]] for box in boxes], float)
    draws = np.random.default_rng(1).random((num, 22)).tolist()
    ours = np.array([_crop_box(width, height, 0.08, one) for one in draws], float)
    ours[:, 2:] -= ours[:, :2]
    for column in range(4):
        distance = largest_gap(ours[:, column], expected[:, column])
        # Two samples of one distribution exceed this once in a thousand times (Kolmogorov, Smirnov).
        assert distance < 1.95 * math.sqrt(2 / num), column


def augmenting(size, **settings):
    return TrainTransform(size=size, augment=AugmentConfig(**settings))


def largest_gap(first, second):
    places = np.concatenate([first, second])
    shares = [np.searchsorted(np.sort(one), places, side="right") / len(one) for one in (first, second)]
    return np.abs(shares[0] - shares[1]).max()


def test_where_no_crop_fits_it_is_the_middle():
    draws = [0.99, 0.99] + [0.999, 0.5] * 10
    assert _crop_box(1000, 10, 0.9, draws) == (493, 0, 506, 10)
    assert _crop_box(10, 1000, 0.9, draws) == (0, 493, 10, 506)


def test_without_cropping_and_flipping_an_image_of_the_size_stays_as_it_is():
    square = Image.fromarray(photo(32, 32))
    stored = torch.from_numpy(np.array(square)).permute(2, 0, 1)
    whole = [augmenting(32, min_crop_area=1.0, flip=0.0)(square, (0, 0, index)) for index in range(40)]
    assert any(torch.equal(one, stored) for one in whole)


def test_the_share_of_mirrored_images():
    transform = {flip: augmenting(8, flip=flip) for flip in (0.0, 0.3, 1.0)}
    mirrored = 0
    for index in range(1000):
        plain, turned = (transform[flip](PHOTO, (0, 0, index)) for flip in (0.0, 1.0))
        assert torch.equal(plain.flip(2), turned)
        mirrored += torch.equal(transform[0.3](PHOTO, (0, 0, index)), turned)
    assert abs(mirrored - 300) < 4 * math.sqrt(1000 * 0.3 * 0.7)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_image_follows_from_its_words_alone(layers):
    transform = augmenting(16, randaugment_layers=layers, randaugment_magnitude=15.0)
    words = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1, 2)]
    first = {word: transform(PHOTO, word) for word in words}
    # In another order, with another history of the global generators, in another copy.
    np.random.seed(5)
    random.seed(5)
    torch.manual_seed(5)
    other = pickle.loads(pickle.dumps(transform))
    for word in reversed(words):
        assert torch.equal(other(PHOTO, word), first[word])
    shown = {tuple(pixels.flatten().tolist()) for pixels in first.values()}
    assert len(shown) == len(words)


@pytest.mark.parametrize("layers", [0, 2])
def test_drawing_leaves_no_trace(layers, unchecked):
    transform = augmenting(16, randaugment_layers=layers)
    transform(PHOTO, (0, 0, 0))
    before = global_states()
    transform(PHOTO, (0, 0, 1))
    assert global_states() == before


def test_seeded_puts_back_what_was_also_after_an_error():
    before = global_states()
    with pytest.raises(KeyError), seeded(1, 2):
        random.random(), np.random.random(), torch.rand(1)
        raise KeyError
    assert global_states() == before
    drawn = []
    for words in ((1, 2), (1, 2), (2, 1)):
        with seeded(*words):
            drawn.append((random.random(), np.random.random(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


@pytest.mark.parametrize("magnitude", [7, 15, 30])
def test_randaugment_is_the_one_that_timm_spells(magnitude, unchecked):
    from timm.data.auto_augment import rand_augment_transform

    settings = {"interpolation": Image.Resampling.NEAREST, "translate_pct": 100 / 224}
    theirs = rand_augment_transform(f"rand-m{magnitude}-n2-p1-mmax30", hparams=settings)
    plain = augmenting(48)
    ours = augmenting(48, randaugment_layers=2, randaugment_magnitude=magnitude)
    for index in range(60):
        words = (3, 1, index)
        unchanged = Image.fromarray(plain(PHOTO, words).permute(1, 2, 0).contiguous().numpy())
        with seeded(Purpose.OPERATIONS, *words):
            expected = np.asarray(theirs(unchanged))
        assert np.array_equal(ours(PHOTO, words).permute(1, 2, 0).numpy(), expected)


def test_each_layer_of_randaugment_is_applied_at_its_magnitude():
    operations = augmenting(8, randaugment_layers=3, randaugment_magnitude=12.5)._randaugment
    assert operations.num_layers == 3 and operations.choice_weights is None
    assert len(operations.ops) == 15
    for operation in operations.ops:
        assert (operation.prob, operation.magnitude, operation.magnitude_max) == (1.0, 12.5, 30)
        assert operation.magnitude_std == 0
        assert not operation.name.endswith("Increasing")


def test_solarize_of_magnitude_15_leaves_a_image_and_rotate_turns_by_45():
    """As TensorFlow's: 15 / 10 of 256 levels and of 30 degrees."""
    by_name = {
        operation.name: operation
        for operation in augmenting(8, randaugment_layers=1, randaugment_magnitude=15.0)._randaugment.ops
    }
    assert np.array_equal(np.asarray(by_name["Solarize"](PHOTO)), np.asarray(PHOTO))
    turned = [
        np.asarray(PHOTO.rotate(angle, Image.Resampling.NEAREST, fillcolor=(128,) * 3)) for angle in (45, -45)
    ]
    found = np.asarray(by_name["Rotate"](PHOTO))
    assert any(np.array_equal(found, one) for one in turned)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.data.auto_augment", None)
    with pytest.raises(
        DependencyError, match=r"TrainTransform: timm must be installed, got none\. pip install timm\."
    ):
        augmenting(8, randaugment_layers=1)(PHOTO, (0, 0, 0))


IMAGES = torch.rand(6, 3, 8, 9)
TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])


def shares(targets):
    """Of each image's own class, whose neighbour is of another."""
    return targets[torch.arange(len(TARGETS)), TARGETS]


@pytest.mark.parametrize("word", range(5))
def test_mixup_blends_each_image_with_its_neighbour(word):
    images, targets = mix(IMAGES, TARGETS, 4, mixup=0.8, cutmix=0.0, seed=(word,))
    share = shares(targets)[0].item()
    assert 0 < share < 1
    for index in range(6):
        expected = share * IMAGES[index] + (1 - share) * IMAGES[index - 1]
        torch.testing.assert_close(images[index], expected)
        labels = torch.zeros(4)
        labels[TARGETS[index]] += share
        labels[TARGETS[index - 1]] += 1 - share
        torch.testing.assert_close(targets[index], labels)


@pytest.mark.parametrize("word", range(5))
def test_cutmix_pastes_a_part_of_the_neighbour(word):
    images, targets = mix(IMAGES, TARGETS, 4, mixup=0.0, cutmix=1.0, seed=(word,))
    own = (images == IMAGES).all(dim=1)
    pasted = (images == IMAGES.roll(1, 0)).all(dim=1)
    assert (own ^ pasted).all()
    # One rectangle, the same in all images; its share is that of the other's class.
    assert (pasted == pasted[0]).all()
    rows, columns = pasted[0].any(dim=1), pasted[0].any(dim=0)
    assert torch.equal(pasted[0], rows[:, None] & columns[None])
    torch.testing.assert_close(shares(targets), own.float().mean(dim=(1, 2)))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))


def test_with_both_each_batch_takes_one_as_the_words_decide():
    blended = 0
    for word in range(200):
        images, _ = mix(IMAGES, TARGETS, 4, mixup=1.0, cutmix=1.0, seed=(7, word))
        blended += bool(((images != IMAGES) & (images != IMAGES.roll(1, 0))).any())
        if word < 5:
            assert torch.equal(mix(IMAGES, TARGETS, 4, mixup=1.0, cutmix=1.0, seed=(7, word))[0], images)
    assert abs(blended - 100) < 4 * math.sqrt(200 / 4)


def test_mixing_leaves_no_trace_and_takes_shares(unchecked):
    before = global_states()
    first, targets = mix(IMAGES, TARGETS, 4, mixup=1.0, cutmix=0.0, seed=(1,))
    assert global_states() == before
    again, soft = mix(IMAGES, torch.eye(4)[TARGETS], 4, mixup=1.0, cutmix=0.0, seed=(1,))
    assert torch.equal(first, again)
    torch.testing.assert_close(soft, targets)
    images, labels = mix(IMAGES, TARGETS, 4, mixup=0.0, cutmix=0.0, seed=(1,))
    assert images is IMAGES and labels is TARGETS
