"""Exact counts of what a model gets right, the same on any number of processes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lambdanets.data.task import Batch, identity
from lambdanets.errors import ArgumentError, DataError
from lambdanets.models.factory import evaluating
from lambdanets.training.distributed import ALONE, DistributedContext

# Top-k of the second count.
TOP: Final = 5
# More classes than a matrix is kept whole for: with their square it would be larger than any data set.
_LARGEST_WHOLE: Final = 1024


@dataclass
class Meter:
    """Running sums of one training epoch: plain numbers, so that a checkpoint holds them exactly.

    Attributes:
        loss_sum: Loss of each image, summed.
        count: Images seen.
        seconds: Time spent on them.
        sums: What else the objective counts, by name, summed over the images.
    """

    loss_sum: float = 0.0
    count: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Meter":
        """Read what `dataclasses.asdict` gave; checkpoints of earlier versions have `correct` alone."""
        kept = dict(values)
        if "correct" in kept:
            kept["sums"] = {"correct": kept.pop("correct")}
        kept["sums"] = {name: float(value) for name, value in kept.get("sums", {}).items()}
        return cls(**{**kept, "loss_sum": float(kept["loss_sum"]), "seconds": float(kept["seconds"])})

    def mean(self, name: str) -> float:
        """Mean of a sum over the images seen; of no image 0."""
        return self.sums.get(name, 0.0) / max(self.count, 1)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of one pass over the test images, of all processes together.

    Attributes:
        confusion: Images of each class (row) by the class they were predicted as (column); a sparse tensor
            for more than a thousand classes.
        loss: Mean cross-entropy, without label smoothing.
        top5_correct: Images whose class is among the five most likely; with fewer classes, all of them.
        left_out: Images that could not be read and are in no other count.
        real_correct: Images whose prediction is in their set of labels, where such sets were given.
        real_total: Images whose set is not empty.
        unreadable: One sentence for each file of this process that could not be read.
    """

    confusion: Int[Tensor, "num_classes num_classes"]
    loss: float
    top5_correct: int
    left_out: int = 0
    real_correct: int | None = None
    real_total: int | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def correct(self) -> int:
        """Images classified correctly."""
        entries = confusion_entries(self.confusion)
        return int(entries[entries[:, 0] == entries[:, 1], 2].sum())

    @property
    def total(self) -> int:
        """Images seen."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The fraction that is correct."""
        return self.correct / self.total

    @property
    def top5_accuracy(self) -> float:
        """The fraction whose class is among the five most likely."""
        return self.top5_correct / self.total

    @property
    def real_accuracy(self) -> float | None:
        """The fraction of the images with a set of labels whose prediction is in it."""
        if self.real_correct is None or not self.real_total:
            return None
        return self.real_correct / self.real_total

    def record(self) -> dict[str, Any]:
        """Give its numbers as metrics.jsonl holds them."""
        return {
            "test_loss": self.loss,
            "test_accuracy": self.accuracy,
            "test_correct": self.correct,
            "test_total": self.total,
            "test_top5_correct": self.top5_correct,
        }

    def require_whole(self, num_images: int) -> "Evaluation":
        """Return this evaluation, if each image of a data set was counted once."""
        if self.total + self.left_out != num_images:
            raise DataError(
                f"evaluate: batches must hold each of the {num_images} images once over all processes,"
                f" got {self.total + self.left_out}."
            )
        return self


def confusion_entries(confusion: Int[Tensor, "num_classes num_classes"]) -> Int[Tensor, "n 3"]:
    """Give class, predicted class and images of each entry of a confusion matrix that is not zero."""
    if confusion.is_sparse:
        confusion = confusion.coalesce()
        places, images = confusion.indices().T, confusion.values()
    else:
        places = confusion.nonzero()
        images = confusion[tuple(places.T)]
    return torch.cat((places, images[:, None]), dim=1)


def confusion_matrix(
    entries: Int[Tensor, "n 3"], num_classes: int
) -> Int[Tensor, "{num_classes} {num_classes}"]:
    """Put a confusion matrix together from entries; those of one place are added."""
    size = (num_classes, num_classes)
    if num_classes > _LARGEST_WHOLE:
        places, images = entries[:, :2].T, entries[:, 2]
        return torch.sparse_coo_tensor(places, images, size, check_invariants=True).coalesce()
    return torch.zeros(size, dtype=torch.int64).index_put_(
        (entries[:, 0], entries[:, 1]), entries[:, 2], accumulate=True
    )


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    *,
    prepare: Callable[[Tensor], Tensor] = identity,
    precision: torch.dtype | None = None,
    ctx: DistributedContext = ALONE,
    real: Int[Tensor, "n most"] | None = None,
) -> Evaluation:
    """Count the predictions of a model on all images.

    Counts are summed as integers, so the result depends neither on how the images are cut into batches nor on
    the number of processes. A process without an image takes part with zeros, and an error in one ends the
    evaluation in all.

    Args:
        model: Gives logits; its mode is put back afterwards.
        batches: Images and classes, each image once. A class of -1 is an image that could not be read:
            it is counted as left out, and its pixels are not used.
        prepare: From images to what the model takes; called on the device.
        precision: Precision of its products; none: that of its weights.
        ctx: The device of the model, and the processes that evaluate together.
        real: For each image of these batches, in their order, the classes that count as correct, with -1
            behind them. An image without any is in no such count.

    Raises:
        ArgumentError: A target is no class, or `real` has another length than the batches together.
        DataError: There is no readable image, or another process has met an error.
    """
    (evaluation,) = evaluate_models(
        [model], batches, num_classes, prepare=prepare, precision=precision, ctx=ctx, real=real
    )
    return evaluation


def evaluate_models(
    models: Sequence[nn.Module],
    batches: Iterable[Batch],
    num_classes: int,
    *,
    prepare: Callable[[Tensor], Tensor] = identity,
    precision: torch.dtype | None = None,
    ctx: DistributedContext = ALONE,
    real: Int[Tensor, "n most"] | None = None,
) -> list[Evaluation]:
    """Count the predictions of several models on the same images, each of which is read once.

    The numbers of each model are those of `evaluate`, whose arguments and errors these are.
    """
    tallies = [_Tally(num_classes, ctx.device, real) for _ in models]

    def count() -> None:
        for batch in batches:
            readable = _readable(batch, num_classes)
            images = batch.images if readable.all() else batch.images[readable]
            inputs = prepare(images.to(ctx.device, non_blocking=True)) if len(images) else None
            for tally, model in zip(tallies, models, strict=True):
                with torch.autocast(ctx.device.type, precision) if precision else nullcontext():
                    logits = None if inputs is None else model(inputs)
                tally.add(batch, readable, logits)
        for tally in tallies:
            tally.check_rows()

    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        ctx.agree(count, "evaluate: every process must judge its images")
    return [tally.result(ctx) for tally in tallies]


def _readable(batch: Batch, num_classes: int) -> Tensor:
    """Which images of a batch could be read."""
    targets = batch.targets
    if targets.is_floating_point() or (len(targets) and int(targets.max()) >= num_classes):
        found = "fractions of classes" if targets.is_floating_point() else f"class {int(targets.max())}"
        raise ArgumentError(
            f"evaluate: targets must be integers below num_classes={num_classes}, got {found}."
        )
    return targets >= 0


class _Tally:
    """The sums of one pass: kept where the model is, and read once at the end."""

    def __init__(self, num_classes: int, device: torch.device, real: Tensor | None) -> None:
        self.num_classes = num_classes
        self.device = device
        # For each image its class and the predicted one, as one number.
        self.pairs = [torch.zeros(0, dtype=torch.int64, device=device)]
        # Among the first five; in a set of labels; with such a set; left out.
        self.counts = torch.zeros(4, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.unreadable: list[str] = []
        self.real = real
        self.seen = 0

    def add(self, batch: Batch, readable: Tensor, logits: Tensor | None) -> None:
        """Count the images of a batch by the logits of those that could be read; None: of no image."""
        self.counts[3] += int((~readable).sum())
        self.unreadable += batch.unreadable
        first, self.seen = self.seen, self.seen + len(readable)
        self._require_rows(self.real is None or self.seen <= len(self.real))
        if logits is None:
            return
        classes = batch.targets[readable].to(self.device, non_blocking=True)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        self.loss += cross_entropy(logits, classes, reduction="none").double().sum()
        predictions = logits.argmax(dim=1)
        self.pairs.append(classes * self.num_classes + predictions)
        self.counts[0] += (_label_ranks(logits, classes) < min(TOP, self.num_classes)).sum()
        if self.real is not None:
            rows = self.real[first : self.seen][readable].to(self.device)
            self.counts[1] += (rows == predictions[:, None]).any(dim=1).sum()
            self.counts[2] += (rows >= 0).any(dim=1).sum()

    def check_rows(self) -> None:
        """Raise where there were fewer images than rows of labels."""
        self._require_rows(self.real is None or self.seen == len(self.real))

    def result(self, ctx: DistributedContext) -> Evaluation:
        """The sums over all processes."""
        pairs, images = torch.cat(self.pairs).unique(return_counts=True)
        own = torch.stack((pairs // self.num_classes, pairs % self.num_classes, images), dim=1).cpu()
        is_whole = self.num_classes <= _LARGEST_WHOLE
        whole = confusion_matrix(own, self.num_classes).flatten() if is_whole else own.flatten()[:0]
        sums = ctx.all_reduce(torch.cat([whole, self.counts.cpu()]))
        top5_correct, real_correct, real_total, left_out = sums[-4:].tolist()
        if is_whole:
            confusion = sums[:-4].reshape(self.num_classes, -1)
        else:
            confusion = confusion_matrix(torch.cat(ctx.all_gather(own)), self.num_classes)
        loss = ctx.all_reduce(self.loss).item()
        total = int(confusion.sum())
        if not total:
            raise DataError("evaluate: batches must hold at least one readable image, got none.")
        return Evaluation(
            confusion=confusion,
            loss=loss / total,
            top5_correct=top5_correct,
            left_out=left_out,
            real_correct=None if self.real is None else real_correct,
            real_total=None if self.real is None else real_total,
            unreadable=tuple(self.unreadable),
        )

    def _require_rows(self, enough: bool) -> None:
        if not enough:
            rows = 0 if self.real is None else len(self.real)
            raise ArgumentError(f"evaluate: real must have a row for each image of the batches, got {rows}.")


def _label_ranks(logits: Float[Tensor, "b num_classes"], labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The rank of each label among the classes by logit, from 0; of equal logits the lower class is first."""
    own = logits.gather(1, labels[:, None])
    # A logit that is not a number is behind all others.
    behind = (logits < own) | (
        (logits == own) & (torch.arange(logits.shape[1], device=logits.device) >= labels[:, None])
    )
    return (~behind).sum(dim=1)
