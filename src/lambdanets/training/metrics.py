"""Exact counts of what a model gets right."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lambdanets.batches import Batch


@dataclass
class Meter:
    """Running sums of one training epoch: plain numbers, so that a checkpoint holds them exactly.

    Attributes:
        loss_sum: Loss of each picture, summed.
        correct: Pictures classified correctly, as they were trained on.
        count: Pictures seen.
        seconds: Time spent on them.
    """

    loss_sum: float = 0.0
    correct: int = 0
    count: int = 0
    seconds: float = 0.0

    def update(
        self, loss: Float[Tensor, ""], logits: Float[Tensor, "b num_classes"], labels: Int[Tensor, " b"]
    ) -> None:
        """Add one batch."""
        self.loss_sum += loss.item() * len(labels)
        self.correct += int((logits.argmax(dim=1) == labels).sum())
        self.count += len(labels)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one pass over the test pictures.

    Attributes:
        confusion: Pictures of each class (row) by the class they were taken for (column).
        loss: Mean cross-entropy, without label smoothing.
    """

    confusion: Int[Tensor, "num_classes num_classes"]
    loss: float

    @property
    def correct(self) -> int:
        """Pictures classified correctly."""
        return int(self.confusion.diagonal().sum())

    @property
    def total(self) -> int:
        """Pictures seen."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share that is correct."""
        return self.correct / self.total


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[Batch], num_classes: int) -> Evaluation:
    """Count what a model makes of each picture.

    Whole numbers are summed, so the result does not depend on how the pictures are cut into batches.

    Args:
        model: Gives logits; its mode is put back afterwards.
        batches: Pictures and labels, each picture once.
        num_classes: Rows of the confusion matrix.
    """
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    loss_sum = 0.0
    training = model.training
    model.eval()
    for images, labels, _ in batches:
        logits = model(images)
        loss_sum += cross_entropy(logits, labels, reduction="sum").item()
        confusion += confusion_matrix(logits.argmax(dim=1), labels, num_classes)
    model.train(training)
    return Evaluation(confusion=confusion, loss=loss_sum / int(confusion.sum()))


def confusion_matrix(
    predictions: Int[Tensor, " b"], labels: Int[Tensor, " b"], num_classes: int
) -> Int[Tensor, "num_classes num_classes"]:
    """Count each pair of a label (row) and a prediction (column)."""
    pairs = labels * num_classes + predictions
    return torch.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
