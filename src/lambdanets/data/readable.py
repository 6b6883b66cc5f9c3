"""Test images of which those that cannot be read are left out, each by itself, and named."""

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.task import Batch, TestData
from lambdanets.errors import DataError

# The class of an image that could not be read: no evaluation counts it.
NO_CLASS = -1


class ReadableTest:
    """The images of a data set, where an unreadable one costs only itself.

    Without this the first unreadable image ends an evaluation. With it the image keeps its place in the
    batch, with the class -1 and pixels that mean nothing, so that the order is that of the data set; the
    sentence that names it is in `Batch.unreadable`.

    Args:
        data: The images. Those that can be read must do so each time.
    """

    def __init__(self, data: TestData) -> None:
        self._data = data

    def __len__(self) -> int:
        """How many images there are, readable or not."""
        return len(self._data)

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices; those that cannot be read have the class -1."""
        try:
            return self._data.batch(indices)
        except DataError:
            return self._one_by_one(indices)

    def _one_by_one(self, indices: Tensor) -> Batch:
        read: dict[int, Batch] = {}
        why: list[str] = []
        for place, index in enumerate(indices.split(1)):
            try:
                read[place] = self._data.batch(index)
            except DataError as error:
                why.append(str(error))
        classes = torch.full((len(indices),), NO_CLASS)
        if not read:
            return Batch(torch.zeros(len(indices), 1, 1, 1), classes, tuple(why))
        kept = torch.tensor(list(read))
        found = torch.cat([batch.images for batch in read.values()])
        images = found.new_zeros(len(indices), *found.shape[1:])
        images[kept] = found
        classes[kept] = torch.cat([batch.targets for batch in read.values()])
        return Batch(images, classes, tuple(why))
