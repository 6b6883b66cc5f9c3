"""Semi: 200 labelled digits of each class alike, chosen by the seed, and nothing lost."""

import pytest
import torch

from lambdanets.data.digits import load_digits
from lambdanets.data.semi import choose, load_semi
from lambdanets.errors import ArgumentError


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_each_image_is_in_one_part(seed: int) -> None:
    semi, (train, test) = load_semi(seed), load_digits()
    assert (len(semi.labelled), len(semi.unlabelled), len(semi.test)) == (200, 1097, 500)
    assert semi.labelled.labels.bincount().tolist() == [20] * 10
    both = torch.cat([semi.labelled.images, semi.unlabelled.images]).flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, train.images.flatten(1).tolist()))
    assert torch.equal(semi.test.images, test.images)


def test_labels_stay_with_their_images() -> None:
    semi, (train, _) = load_semi(3), load_digits()
    known = {
        tuple(image): label
        for image, label in zip(train.images.flatten(1).tolist(), train.labels.tolist(), strict=True)
    }
    for part in (semi.labelled, semi.unlabelled):
        found = [known[tuple(image)] for image in part.images.flatten(1).tolist()]
        assert found == part.labels.tolist()


def test_the_seed_decides_the_choice() -> None:
    train, _ = load_digits()
    assert torch.equal(choose(train, 20, 7), choose(train, 20, 7))
    assert not torch.equal(choose(train, 20, 7), choose(train, 20, 8))


def test_too_many_of_a_class_are_refused() -> None:
    train, _ = load_digits()
    with pytest.raises(
        ArgumentError, match=r"choose: num_each must be at most the images of a class, \d+ of \d, got 200\."
    ):
        choose(train, 200, 0)
