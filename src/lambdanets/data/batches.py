"""What data give and training takes: batches, and images as functions of the epoch and the index."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int, UInt8
from torch import Tensor

# Normalised numbers, or pixels as bytes that `Task.prepare` normalises where the network is.
Images = Float[Tensor, "b c height width"] | UInt8[Tensor, "b c height width"]

# The class of each image, or a share of every class.
Targets = Int[Tensor, " b"] | Float[Tensor, "b num_classes"]


class Batch(NamedTuple):
    """Images with what they show.

    Attributes:
        images: The images.
        targets: Their classes.
        unreadable: One sentence for each file that could not be read; another image stands in its place.
    """

    images: Images
    targets: Targets
    unreadable: tuple[str, ...] = ()


@runtime_checkable
class TrainingData(Protocol):
    """Images to train on, as pure functions of the epoch and the index."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        """The order of an epoch: each index once."""
        ...

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices as this epoch shows them, and their classes."""
        ...


@runtime_checkable
class TestData(Protocol):
    """Images to judge by."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def batch(self, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices, and their classes.

        Raises:
            DataError: A file cannot be read; nothing stands in for it.
        """
        ...
