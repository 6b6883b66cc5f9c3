"""Unreadable test images: left out one by one, named, and nothing else lost."""

import pytest
import torch

from lambdanets.data.task import Batch, ReadableTest
from lambdanets.errors import DataError
from lambdanets.training.loader import test_batches as shared_batches


class Damaged:
    """Bytes whose value is their index; some cannot be read."""

    def __init__(self, num, bad):
        self.num = num
        self.bad = bad
        self.calls = 0

    def __len__(self):
        return self.num

    def batch(self, indices):
        self.calls += 1
        for index in indices.tolist():
            if index in self.bad:
                raise DataError(f"{index}.png: truncated")
        images = indices.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
        return Batch(images, indices % 5)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("bad", [{3}, {0, 1, 9}, set(range(4, 8))])
def test_each_unreadable_image_costs_only_itself(bad, num_workers):
    data = ReadableTest(Damaged(10, bad))
    batches = list(shared_batches(data, 4, num_workers=num_workers))
    assert [len(batch.targets) for batch in batches] == [4, 4, 2]
    classes = torch.cat([batch.targets for batch in batches]).tolist()
    assert classes == [-1 if index in bad else index % 5 for index in range(10)]
    found = {
        int(image.max()): int(target)
        for batch in batches
        for image, target in zip(batch.images, batch.targets, strict=True)
        if target >= 0
    }
    assert found == {index: index % 5 for index in range(10) if index not in bad}
    assert [why for batch in batches for why in batch.unreadable] == [
        f"{i}.png: truncated" for i in sorted(bad)
    ]


def test_whole_batches_are_read_at_once():
    damaged = Damaged(8, {7})
    list(shared_batches(ReadableTest(damaged), 4))
    assert damaged.calls == 1 + (1 + 4)


def test_without_it_the_first_one_ends():
    with pytest.raises(DataError, match=r"3\.png: truncated"):
        list(shared_batches(Damaged(10, {3}), 4))
