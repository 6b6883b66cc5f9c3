"""Predictions of a detector: collected by any number of processes, written as COCO's JSON, scored by one.

predictions = Predictions(task.test_file, masks=True)
for batch in ...:  # those of this process
    predictions.add(batch.targets, model(images))
whole = predictions.gather(ctx)
scores = ctx.from_main(lambda: evaluate_predictions(whole.file, whole.results(), masks=True))
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lambdanets.detection.coco import CocoFile
from lambdanets.detection.matching import (
    AREAS,
    KINDS,
    MOST_DETECTIONS,
    Curves,
    Evaluator,
    Result,
    accumulate,
    check_results,
    mean_of_objects,
)
from lambdanets.detection.rle import sample_mask
from lambdanets.errors import ArgumentError, DataError, PathError, check_choice
from lambdanets.files import replace_file
from lambdanets.reading import read_json, reading
from lambdanets.training.distributed import DistributedContext


class Predictions:
    """The detections of images, in the ids and pixels of their file.

    Args:
        file: The file of the images.
        masks: Keep masks too. Each is read at the pixels of the original, encoded and dropped before the
            next: they are never beside each other.
    """

    def __init__(self, file: CocoFile, *, masks: bool) -> None:
        self.file = file
        self.masks = masks
        self._found: dict[int, list[Result]] = {}

    @property
    def image_ids(self) -> tuple[int, ...]:
        """Ids of the images that were looked at, also of those where nothing was found."""
        return tuple(sorted(self._found))

    def add(
        self, targets: Sequence[Mapping[str, Tensor]], detections: Sequence[Mapping[str, Tensor]]
    ) -> None:
        """Add the detections of a batch.

        Args:
            targets: One for each image; `image_id` is its place in the file, `scale` the pixels of the canvas
                for one of the original, by height and width.
            detections: One for each image: `boxes` in pixels of the canvas, `labels` counted from 1 in the
                order of the categories, `scores`, and `masks` (n, 1, side, side) of each box for itself.
        """
        for target, detection in zip(targets, detections, strict=True):
            image = self.file.images[int(target["image_id"])]
            if image.id in self._found:
                raise ArgumentError(f"Predictions: every image must come once, got image {image.id} again.")
            self._found[image.id] = self._results(
                image.id, (image.height, image.width), target["scale"], detection
            )

    def _results(
        self, image_id: int, size: tuple[int, int], scale: Tensor, detection: Mapping[str, Tensor]
    ) -> list[Result]:
        height, width = size
        boxes = detection["boxes"].detach().cpu().double() / scale.cpu().double()[[1, 0, 1, 0]]
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        results: list[Result] = []
        for (x1, y1, x2, y2), label, score in zip(
            boxes.tolist(), detection["labels"].tolist(), detection["scores"].tolist(), strict=True
        ):
            results.append(
                {
                    "image_id": image_id,
                    "category_id": self.file.categories[label - 1].id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
        if self.masks:
            masks = detection["masks"].detach().cpu()
            shift = (0.5 / float(scale[0]), 0.5 / float(scale[1]))
            for result, mask, box in zip(results, masks, boxes, strict=True):
                result["segmentation"] = sample_mask(mask[0], box, size, shift)
        return results

    def gather(self, ctx: DistributedContext) -> "Predictions":
        """Bring together what all processes have, each of which calls this."""
        whole = Predictions(self.file, masks=self.masks)
        for part in ctx.all_gather(self._found):
            if twice := part.keys() & whole._found.keys():
                raise ArgumentError(
                    f"Predictions: every image must come once, got image {min(twice)} from two processes."
                )
            whole._found.update(part)
        return whole

    def results(self) -> list[Result]:
        """List the detections as COCO's JSON of results does, by image id, in the order they came."""
        return [result for image in self.image_ids for result in self._found[image]]


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """The scores of one class.

    Attributes:
        id: The category's id in the file.
        name: Its name.
        num_objects: How many objects there are, without crowds.
        scores: `box_ap` and `mask_ap`, as fractions; None without objects.
    """

    id: int
    name: str
    num_objects: int
    scores: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class DetectionScores:
    """Average precision and recall by COCO's definition, as fractions; None where there is no object.

    Attributes:
        evaluator: The library that counted.
        num_images: How many images were looked at.
        of_images: How many the file has.
        box: `box_ap` over IoU from 0.5 to 0.95, `box_ap_50`, `box_ap_75`, `box_ap_small` (area up to 32²
            pixels), `box_ap_medium`, `box_ap_large` (from 96²); and of average recall `box_ar_1`,
            `box_ar_10`, `box_ar_100` detections of an image, `box_ar_small`, `box_ar_medium`,
            `box_ar_large`.
        mask: The same for masks: `mask_ap` and so on; None without masks.
        classes: Each class for itself.
    """

    evaluator: Evaluator
    num_images: int
    of_images: int
    box: dict[str, float | None]
    mask: dict[str, float | None] | None
    classes: tuple[ClassScores, ...]

    @property
    def is_subset(self) -> bool:
        """Whether these are not the scores of the whole file."""
        return self.num_images < self.of_images

    @property
    def named(self) -> dict[str, float | None]:
        """The scores of boxes and masks in one dictionary."""
        return {**self.box, **(self.mask or {})}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "evaluator": self.evaluator,
            "images": self.num_images,
            "of_images": self.of_images,
            "subset": self.is_subset,
            **self.named,
            "classes": [
                {"id": one.id, "name": one.name, "objects": one.num_objects, **one.scores}
                for one in self.classes
            ],
        }


def evaluate_predictions(
    file: CocoFile,
    results: Sequence[Result],
    *,
    masks: bool,
    evaluator: Evaluator = "faster-coco-eval",
    image_ids: Collection[int] | None = None,
) -> DetectionScores:
    """Score detections against the objects of a file; empty ones and images without objects are fine.

    Args:
        file: The objects.
        results: Detections as `Predictions.results` or `read_results` give them.
        masks: Score masks too. An object of the file without one counts for boxes alone.
        evaluator: The library; both give the same numbers to the last digit.
        image_ids: The images that count, as those of a part that was looked at; all unless given.

    Raises:
        DataError: A result lacks something, or has ids that the file does not have.
        DependencyError: The library is not installed.
    """
    check_choice("evaluate_predictions", "evaluator", evaluator, ("faster-coco-eval", "pycocotools"))
    check_results(file, results, masks=masks)
    wanted = {image.id for image in file.images} if image_ids is None else {*image_ids}
    curves = {
        name: accumulate(file, results, kind, evaluator=evaluator, image_ids=wanted)
        for name, kind in KINDS.items()
        if name == "box" or masks
    }
    scores = {name: _scores(name, found) for name, found in curves.items()}
    counted = [image for image in file.images if image.id in wanted]
    objects = Counter(one.category_id for image in counted for one in image.annotations if not one.is_crowd)
    return DetectionScores(
        evaluator=evaluator,
        num_images=len(counted),
        of_images=len(file.images),
        box=scores["box"],
        mask=scores.get("mask"),
        classes=tuple(
            ClassScores(
                id=category.id,
                name=category.name,
                num_objects=objects[category.id],
                scores={
                    f"{name}_ap": mean_of_objects(found.precision[:, :, place, 0, -1])
                    for name, found in curves.items()
                },
            )
            for place, category in enumerate(file.categories)
        ),
    )


def _scores(name: str, curves: Curves) -> dict[str, float | None]:
    """The scores of COCO's table from precision and recall."""
    precision, recall = curves.precision[..., -1], curves.recall
    # The thresholds 0.5 and 0.75 are the first and the sixth of ten.
    found = {
        "ap": precision[:, :, :, 0],
        "ap_50": precision[0, :, :, 0],
        "ap_75": precision[5, :, :, 0],
    }
    sizes = [*AREAS][1:]
    found |= {f"ap_{area}": precision[..., place] for place, area in enumerate(sizes, 1)}
    found |= {f"ar_{most}": recall[:, :, 0, place] for place, most in enumerate(MOST_DETECTIONS)}
    found |= {f"ar_{area}": recall[:, :, place, -1] for place, area in enumerate(sizes, 1)}
    return {f"{name}_{key}": mean_of_objects(values) for key, values in found.items()}


def write_results(path: Path, results: Sequence[Result], who: str = "detect eval") -> None:
    """Write detections as COCO's JSON of results, which pycocotools' `loadRes` reads."""
    replace_file(path, json.dumps(list(results)).encode(), who)


def read_results(path: Path) -> list[Result]:
    """Read COCO's JSON of results.

    Raises:
        PathError: There is no such file.
        DataError: It holds something else.
    """
    if not os.path.lexists(path):
        raise PathError(f"results: {path} must be a file of COCO's JSON of results, got none.")
    with reading("results", path, "hold JSON"):
        found = read_json(path, limit=2**32)
    if not isinstance(found, list) or not all(isinstance(result, dict) for result in found):
        raise DataError(
            f"results: {path} must hold a list of detections, got {type(found).__name__}."
            " A file of annotations has its own place: --annotations."
        )
    return found
