"""What the training of a detector minimises, and its evaluation: losses and average precision."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from lambdanets.data.task import Batch, TestData
from lambdanets.detection.coco import CocoFile
from lambdanets.detection.evaluation import DetectionScores, Predictions, evaluate_predictions
from lambdanets.detection.mask_rcnn import Detector, detect_and_judge
from lambdanets.detection.matching import Evaluator
from lambdanets.errors import ArgumentError
from lambdanets.models.factory import evaluating
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import DistributedContext, autocast_dtype
from lambdanets.training.loader import test_batches
from lambdanets.training.metrics import Meter
from lambdanets.training.objective import Objective, autocast

# The losses of torchvision's detectors, whose sum is minimised: classes, boxes and masks of the heads, then
# whether there is an object, and where, of the proposals.
_LOSSES: Final = (
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
    "loss_objectness",
    "loss_rpn_box_reg",
)


@dataclass(frozen=True, kw_only=True)
class DetectionEvaluation:
    """The result of one pass over the test images, of all processes together.

    Attributes:
        scores: Average precision and recall.
        loss: Mean of the summed losses, with the running statistics of the norms.
        losses: Each of them.
        results: The detections as COCO's results have them.
    """

    scores: DetectionScores
    loss: float
    losses: dict[str, float]
    results: list[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """Give its numbers as metrics.jsonl holds them."""
        parts = {f"test_{name}": value for name, value in self.losses.items()}
        return {"test_loss": self.loss, **parts, **self.scores.named}


@dataclass(frozen=True, kw_only=True)
class Detection(Objective):
    """The losses of Mask R-CNN, judged by average precision.

    Attributes:
        test_file: The objects of the test images.
        masks: Whether the network predicts masks.
        side: Largest side of the training images.
        most_objects: The most objects of one.
    """

    test_file: CocoFile
    masks: bool
    side: int
    most_objects: int

    counted = _LOSSES
    best_by = ("box_ap", "mask_ap")

    def loss(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        ctx: DistributedContext,
        dtype: torch.dtype | None,
        seed: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        """Compute the sum of the losses, and each of them times the number of images."""
        images, targets = _moved(batch, ctx.device)
        with autocast(ctx.device, dtype):
            found: dict[str, Tensor] = model(images, targets)
        parts = _stacked(found)
        return parts.sum(), parts.detach() * len(images)

    def rehearse(
        self, model: nn.Module, num_images: int, *, ctx: DistributedContext, dtype: torch.dtype | None
    ) -> None:
        """Make a forward and a backward pass with the largest images and the most objects, and forget it.

        Raises:
            ArgumentError: They do not fit into the memory.
        """
        batch = self._largest_batch(num_images)
        kept = [buffer.clone() for buffer in model.buffers()]
        try:
            self.loss(model, batch, ctx=ctx, dtype=dtype, seed=())[0].backward()
        except torch.OutOfMemoryError as error:
            raise ArgumentError(
                f"detect train: {num_images} images of {self.side}×{self.side} at once must fit"
                " into the memory, got too many. Use a smaller --data.image-size, more"
                " --exec.accumulation, more processes or --exec.gradient-checkpointing."
            ) from error
        finally:
            model.zero_grad(set_to_none=True)
            for buffer, value in zip(model.buffers(), kept, strict=True):
                buffer.copy_(value)

    def _largest_batch(self, num_images: int) -> Batch:
        """Grey images that are full of objects."""
        side, count = self.side, max(self.most_objects, 1)
        corners = torch.linspace(0, side / 2, count)[:, None].expand(count, 2)
        target = {
            "boxes": torch.cat([corners, corners + side / 2], dim=1),
            "labels": torch.ones(count, dtype=torch.int64),
            "size": torch.tensor([side, side]),
        }
        if self.masks:
            target["masks"] = torch.ones(count, side, side, dtype=torch.uint8)
        return Batch(torch.full((num_images, 3, side, side), 128, dtype=torch.uint8), (target,) * num_images)

    def evaluate(
        self, model: nn.Module, data: TestData, execution: ExecConfig, ctx: DistributedContext
    ) -> DetectionEvaluation:
        """Detect objects in every image, and compare them with those that are there."""
        return evaluate_detections(model, data, self.test_file, execution, ctx, masks=self.masks)

    def training_record(self, meter: Meter) -> dict[str, Any]:
        """Give the mean of each loss."""
        return {f"train_{name}": meter.mean(name) for name in _LOSSES}


def evaluate_detections(
    model: nn.Module,
    data: TestData,
    file: CocoFile,
    execution: ExecConfig,
    ctx: DistributedContext,
    *,
    masks: bool,
    evaluator: Evaluator = "faster-coco-eval",
) -> DetectionEvaluation:
    """Detect objects in every image, and compare them with those that are there.

    It goes image by image, so its numbers do not depend on how images are dealt to processes, and its memory
    is that of one image.

    Args:
        model: A detector; its mode is put back afterwards.
        data: The images.
        file: Their objects.
        execution: Precision, and processes that read images.
        ctx: This process among those that evaluate together, each of which calls this.
        masks: Whether the detector predicts masks.
        evaluator: The library that computes average precision.

    Raises:
        DataError: An image cannot be read, or another process has met an error.
    """
    assert isinstance(model, Detector), "only detectors have these losses"
    predictions = Predictions(file, masks=masks)
    dtype = autocast_dtype(execution.precision, ctx.device)
    # The sums of the losses, and the number of images.
    sums = torch.zeros(len(_LOSSES) + 1, dtype=torch.float64)

    def judge() -> None:
        workers, limit_s = execution.num_workers, execution.batch_limit_s
        for batch in test_batches(data, 1, ctx=ctx, num_workers=workers, limit_s=limit_s):
            images, targets = _moved(batch, ctx.device)
            with autocast(ctx.device, dtype):
                detections, found = detect_and_judge(model, images, targets)
            predictions.add(batch.targets, detections)
            sums[:-1] += _stacked(found).double().cpu()
            sums[-1] += 1

    with evaluating(model):
        ctx.agree(judge, "detect: every process must judge its images")
    *parts, count = ctx.all_reduce(sums).tolist()
    means = {name: value / max(count, 1) for name, value in zip(_LOSSES, parts, strict=True)}
    results = predictions.gather(ctx).results()
    scores = ctx.from_main(lambda: evaluate_predictions(file, results, masks=masks, evaluator=evaluator))
    return DetectionEvaluation(scores=scores, loss=sum(means.values()), losses=means, results=results)


def _moved(batch: Batch, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The images of a batch without their padding, from 0 to 1, and their targets, on a device."""
    images, targets = [], []
    for image, target in zip(batch.images.to(device, non_blocking=True), batch.targets, strict=True):
        height, width = target["size"].tolist()
        images.append(image[:, :height, :width].float() / 255)
        moved = {name: value.to(device, non_blocking=True) for name, value in target.items()}
        if "masks" in moved:
            moved["masks"] = moved["masks"][:, :height, :width]
        targets.append(moved)
    return images, targets


def _stacked(found: dict[str, Tensor]) -> Tensor:
    """The losses in their order; a network without masks has no loss of them."""
    zero = next(iter(found.values())).new_zeros(())
    return torch.stack([found.get(name, zero).float() for name in _LOSSES])
