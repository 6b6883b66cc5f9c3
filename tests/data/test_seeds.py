"""What is drawn at random follows from words alone, and one purpose never draws what another does."""

import numpy as np
import torch

from lambdanets.data.seeds import Purpose, generator, permutation

# A number that changes would change every run of its data set.
NUMBERS = {
    "DIGITS_ORDER": 1,
    "DIGITS_MOTION": 2,
    "RELATION_ORDER": 3,
    "RELATION_TRAINING": 4,
    "RELATION_TEST": 5,
    "IMAGES_ORDER": 6,
    "CROP": 7,
    "OPERATIONS": 8,
    "MIX": 9,
    "PATHFINDER_ORDER": 10,
    "PATHFINDER_TRAINING": 11,
    "PATHFINDER_TEST": 12,
    "PSEUDO_ORDER": 13,
    "LABELLED_DIGITS": 14,
    "SHARDS_ORDER": 15,
}


def test_numbers_are_frozen_and_belong_to_one_purpose_each():
    assert {name: int(purpose) for name, purpose in Purpose.__members__.items()} == NUMBERS
    assert len(set(Purpose)) == len(NUMBERS)


def test_what_is_drawn_follows_from_purpose_and_words():
    drawn = generator(Purpose.CROP, 3, 1, 4).random(5)
    np.testing.assert_array_equal(drawn, np.random.default_rng((7, 3, 1, 4)).random(5))
    assert not np.array_equal(drawn, generator(Purpose.MIX, 3, 1, 4).random(5))


def test_a_permutation_has_each_number_once():
    order = permutation(20, Purpose.IMAGES_ORDER, 0, 1)
    assert order.dtype == torch.int64 and sorted(order.tolist()) == list(range(20))
    assert torch.equal(order, permutation(20, Purpose.IMAGES_ORDER, 0, 1))
    assert not torch.equal(order, permutation(20, Purpose.IMAGES_ORDER, 0, 2))
