"""What a run minimises and how its network is judged: classification, and the contract of any other."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lambdanets.data.task import Batch, TestData, identity
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import DistributedContext, autocast_dtype
from lambdanets.training.loader import test_batches
from lambdanets.training.metrics import Meter, evaluate_models
from lambdanets.training.run_folder import RAW

# The two networks of a training: the EMA, and the weights that the optimizer changes.
Trained = Literal["ema", "raw"]

# From images, classes and the seed of the mixture.
Mix = Callable[..., tuple[Tensor, Tensor]]


@runtime_checkable
class EvaluationResult(Protocol):
    """The result of an evaluation."""

    def record(self) -> dict[str, Any]:
        """Give its numbers as the line of an epoch in metrics.jsonl holds them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """The evaluation of the EMA, and that of the raw weights on the same images where there is one.

    Attributes:
        ema: The result of the EMA.
        raw: The result of the weights that the optimizer changes.
    """

    ema: EvaluationResult
    raw: EvaluationResult | None = None

    def record(self) -> dict[str, Any]:
        """Give the numbers for metrics.jsonl: `test_…` are those of the EMA, `raw_test_…` the others."""
        raw = self.raw.record() if self.raw else {}
        # There are as many images for both.
        named = {f"{RAW}{name}": value for name, value in raw.items() if name != "test_total"}
        return {**self.ema.record(), **named}

    def better(self, metric: str) -> tuple[Trained, dict[str, Any]]:
        """Say which weights have the larger metric, the EMA where they are equal, and give their record."""
        ema = self.ema.record()
        raw = ema if self.raw is None else self.raw.record()
        # There is no such number where a test has no objects.
        return ("raw", raw) if (raw.get(metric) or 0) > (ema.get(metric) or 0) else ("ema", ema)


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """What a run minimises, and how its network is judged."""

    # Whether the raw weights are evaluated beside the EMA.
    judges_raw: ClassVar[bool] = False

    # Sums over the images that come with a loss, by name.
    counted: ClassVar[tuple[str, ...]]

    # What describes the best weights, of an evaluation's record; the largest value of the first one is best.
    best_by: ClassVar[tuple[str, ...]]

    @abstractmethod
    def loss(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        ctx: DistributedContext,
        dtype: torch.dtype | None,
        seed: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of the images of a batch, and the sums that are `counted`.

        Args:
            model: The network in training mode.
            batch: Images and targets, not on the device yet.
            ctx: This process and its device.
            dtype: Precision of products under autocast; None: that of the weights.
            seed: What images are mixed by.
        """

    def rehearse(
        self, model: nn.Module, num_images: int, *, ctx: DistributedContext, dtype: torch.dtype | None
    ) -> None:
        """Try the largest batch that can come, where batches differ, so that memory is short now or never.

        Args:
            model: The network in training mode; it is left as it was.
            num_images: Images at once in this process.
            ctx: This process and its device.
            dtype: Precision of products under autocast.
        """
        return

    @abstractmethod
    def evaluate(
        self, model: nn.Module, data: TestData, execution: ExecConfig, ctx: DistributedContext
    ) -> EvaluationResult:
        """Judge a network by test images, of which each process takes a shard; every process must call it."""

    def evaluate_all(
        self, models: Sequence[nn.Module], data: TestData, execution: ExecConfig, ctx: DistributedContext
    ) -> Sequence[EvaluationResult]:
        """Judge several networks by the same images; see `evaluate`."""
        return [self.evaluate(model, data, execution, ctx) for model in models]

    @abstractmethod
    def training_record(self, meter: Meter) -> dict[str, Any]:
        """Give what the sums of an epoch say beside its loss, for its line in metrics.jsonl."""

    def training_accuracy(self, meter: Meter) -> float | None:
        """Give the fraction of the epoch's images so far that is correct, where that means something."""
        return None


@dataclass(frozen=True, kw_only=True)
class Classification(Objective):
    """Cross-entropy of classes, judged by the fraction that is correct.

    Attributes:
        num_classes: Number of classes.
        label_smoothing: Fraction of each label that is spread over all classes.
        prepare: From images as the data give them to what the model takes, on its device.
        mix: Mixes the images of a batch; None without mixup and cutmix.
    """

    num_classes: int
    label_smoothing: float = 0.0
    prepare: Callable[[Tensor], Tensor] = identity
    mix: Mix | None = None

    judges_raw = True
    counted = ("correct",)
    best_by = ("test_correct", "test_accuracy", "test_total")

    def loss(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        ctx: DistributedContext,
        dtype: torch.dtype | None,
        seed: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean cross-entropy, and how many images are classified correctly."""
        images = self.prepare(batch.images.to(ctx.device, non_blocking=True))
        targets = batch.targets.to(ctx.device, non_blocking=True)
        if self.mix:
            images, targets = self.mix(images, targets, seed=seed)
        with autocast(ctx.device, dtype):
            logits = model(images)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if targets.is_floating_point():
            targets = targets.to(logits.dtype)
        loss = cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        # Of mixed images, the class of the largest fraction.
        classes = targets.argmax(dim=1) if targets.ndim == 2 else targets
        return loss, (logits.detach().argmax(dim=1) == classes).sum()[None]

    def evaluate(
        self, model: nn.Module, data: TestData, execution: ExecConfig, ctx: DistributedContext
    ) -> EvaluationResult:
        """Count what is correct."""
        return self.evaluate_all([model], data, execution, ctx)[0]

    def evaluate_all(
        self, models: Sequence[nn.Module], data: TestData, execution: ExecConfig, ctx: DistributedContext
    ) -> Sequence[EvaluationResult]:
        """Count what is correct; each image is read once."""
        evaluations = evaluate_models(
            models,
            test_batches(data, ctx=ctx, num_workers=execution.num_workers, limit_s=execution.batch_limit_s),
            self.num_classes,
            prepare=self.prepare,
            precision=autocast_dtype(execution.precision, ctx.device),
            ctx=ctx,
        )
        return [evaluation.require_whole(len(data)) for evaluation in evaluations]

    def training_record(self, meter: Meter) -> dict[str, Any]:
        """Give the accuracy on the images as they were trained on."""
        return {"train_accuracy": meter.mean("correct")}

    def training_accuracy(self, meter: Meter) -> float | None:
        """Give the accuracy so far; that of mixed images means little."""
        return None if self.mix else meter.mean("correct")


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Compute products in a precision; None: in that of the weights."""
    return torch.autocast(device.type, dtype) if dtype is not None else nullcontext()
