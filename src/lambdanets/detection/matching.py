"""Detections against the objects of a file, by pycocotools and by faster-coco-eval."""

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lambdanets.dependencies import missing_library
from lambdanets.detection.coco import CocoFile
from lambdanets.detection.rle import segmentation_rle
from lambdanets.errors import DataError

Evaluator: TypeAlias = Literal["faster-coco-eval", "pycocotools"]
Kind: TypeAlias = Literal["bbox", "segm"]
# One detection as COCO's JSON of results has it.
Result: TypeAlias = dict[str, Any]

# Smallest and largest area in pixels, both included.
AREAS: Final[Mapping[str, tuple[float, float]]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
# Where the curve of precision is read.
_RECALLS: Final = np.linspace(0, 1, 101)
# Detections of an image and class that are looked at, for recall; average precision takes the last.
MOST_DETECTIONS: Final = (1, 10, 100)
KINDS: Final[Mapping[str, Kind]] = {"box": "bbox", "mask": "segm"}

_MODULES: Final = {
    "faster-coco-eval": ("faster_coco_eval", "COCO", "COCOeval_faster"),
    "pycocotools": ("pycocotools", "COCO", "COCOeval"),
}


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What both libraries accumulate; -1 where there is no object.

    Attributes:
        precision: At 10 IoU thresholds from 0.5 to 0.95 and 101 recalls from 0 to 1, by class, range of
            areas and number of detections.
        recall: The largest, without the axis of recalls.
    """

    precision: Float[ndarray, "thresholds recalls classes areas most"]
    recall: Float[ndarray, "thresholds classes areas most"]


@dataclass(frozen=True, kw_only=True)
class Matching:
    """How detections and objects of a file go together, as pycocotools matches them.

    Attributes:
        records: pycocotools' record for each class, range of areas and image, in the order of their ids;
            None where there is nothing.
        objects: Those of each image, with the `id` that the records use, and the place of their class from 1
            as `category_id`.
        detections: Those of each image.
    """

    records: list[list[list[dict[str, Any] | None]]]
    objects: list[list[dict[str, Any]]]
    detections: list[list[dict[str, Any]]]


def check_results(file: CocoFile, results: Sequence[Result], *, masks: bool) -> None:
    """Raise unless each result is a detection in an image of the file.

    Args:
        file: The file.
        results: Detections.
        masks: Each must have a mask.
    """
    images = {image.id for image in file.images}
    classes = {category.id for category in file.categories}
    keys = ("image_id", "category_id", "bbox", "score", *(("segmentation",) if masks else ()))
    for place, result in enumerate(results):
        if missing := [key for key in keys if result.get(key) is None]:
            raise DataError(
                f"results: each must have {', '.join(keys)}, got none of {', '.join(missing)} in the one at"
                f" {place}."
            )
        if result["image_id"] not in images:
            raise DataError(
                f"results: image ids must be those of {file.path}, got {result['image_id']!r}."
                " Are they of another part of the data set?"
            )
        if result["category_id"] not in classes:
            raise DataError(
                f"results: category ids must be those of {file.path}, got {result['category_id']!r}."
                " Are classes counted from 1 where the file has ids of its own?"
            )


def accumulate(
    file: CocoFile,
    results: Sequence[Result],
    kind: Kind,
    *,
    evaluator: Evaluator = "faster-coco-eval",
    areas: Sequence[tuple[float, float]] = tuple(AREAS.values()),
    image_ids: Collection[int] | None = None,
) -> Curves:
    """Match detections and objects, and accumulate precision and recall over all images.

    Args:
        file: The objects. One without a mask is left out where masks are compared.
        results: Detections that `check_results` has seen.
        kind: Boxes or masks. As in Detectron2, the size of a detection is that of what is compared.
        evaluator: The library.
        areas: Ranges of areas in pixels.
        image_ids: The images that count; all unless given.
    """
    evaluation = _evaluation(file, results, kind, evaluator, areas, image_ids)
    params = evaluation.params
    num_objects = _count_objects(evaluation.cocoGt.dataset["annotations"], params.catIds, params.areaRng)
    num_recalls = len(params.recThrs)
    if evaluator == "faster-coco-eval":
        # Reached by two objects found.
        pairs = 2 / np.unique(num_objects[num_objects > 0])
        params.recThrs = np.concatenate([params.recThrs, pairs])
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.array(evaluation.eval["precision"], dtype=np.float64)
    if evaluator == "faster-coco-eval":
        precision = _with_epsilon(precision, num_objects, params.recThrs, num_recalls)
    return Curves(precision=precision, recall=np.array(evaluation.eval["recall"], dtype=np.float64))


def _count_objects(
    objects: Sequence[Mapping[str, Any]], classes: Sequence[int], areas: Sequence[Sequence[float]]
) -> Int[ndarray, "classes areas"]:
    counts = np.zeros((len(classes), len(areas)), dtype=np.int64)
    places = {number: place for place, number in enumerate(classes)}
    for one in objects:
        if not one["iscrowd"]:
            inside = [low <= one["area"] <= high for low, high in areas]
            counts[places[one["category_id"]]] += inside
    return counts


def _with_epsilon(
    precision: Float[ndarray, "thresholds recalls classes areas most"],
    num_objects: Int[ndarray, "classes areas"],
    recalls: Float[ndarray, " recalls"],
    num_recalls: int,
) -> Float[ndarray, "thresholds few classes areas most"]:
    """Give the precision of one detection that is right the last bit that it has in pycocotools.

    There, precision is tp / (tp + fp + 2⁻⁵²), which is 1 for two right detections and 1 - 2⁻⁵² for one. It is
    that of one where two found objects are not reached at precision 1.
    """
    for k, a in zip(*np.nonzero(num_objects), strict=True):
        (pair,) = np.flatnonzero(recalls[num_recalls:] == 2 / num_objects[k, a])
        curves = precision[:, :, k, a]
        is_single = curves[:, num_recalls + pair] != 1
        curves[(curves == 1) & is_single[:, None]] = 1 / (1 + np.spacing(1))
    return precision[:, :num_recalls]


def match(
    file: CocoFile,
    results: Sequence[Result],
    kind: Kind,
    *,
    areas: Sequence[tuple[float, float]] = tuple(AREAS.values()),
    image_ids: Collection[int] | None = None,
) -> Matching:
    """Match detections and objects image by image, by pycocotools; arguments as `accumulate` has them."""
    evaluation = _evaluation(file, results, kind, "pycocotools", areas, image_ids)
    with redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    images, flat = evaluation.params.imgIds, iter(evaluation.evalImgs)
    return Matching(
        records=[[[next(flat) for _ in images] for _ in areas] for _ in file.categories],
        objects=[evaluation.cocoGt.imgToAnns[image] for image in images],
        detections=[evaluation.cocoDt.imgToAnns[image] for image in images],
    )


def _evaluation(
    file: CocoFile,
    results: Sequence[Result],
    kind: Kind,
    evaluator: Evaluator,
    areas: Sequence[tuple[float, float]],
    image_ids: Collection[int] | None,
) -> Any:
    """A `COCOeval` that is ready to evaluate."""
    make_index, make_evaluation = _library(evaluator)
    wanted = {image.id for image in file.images} if image_ids is None else {*image_ids}
    numbers = _Numbers(
        images={number: place for place, number in enumerate(sorted(wanted), 1)},
        classes={one.id: place for place, one in enumerate(file.categories, 1)},
    )
    # Both libraries take the area of the box for that of the mask where a result has both.
    shape = "bbox" if kind == "bbox" else "segmentation"
    kept = [
        {
            "image_id": numbers.images[result["image_id"]],
            "category_id": numbers.classes[result["category_id"]],
            "score": result["score"],
            shape: result[shape],
        }
        for result in results
        if result["image_id"] in wanted
    ]
    with redirect_stdout(io.StringIO()):
        truth = make_index()
        truth.dataset = _truth(file, numbers, kind)
        truth.createIndex()
        if kept:
            found = truth.loadRes(kept)
        else:
            # pycocotools looks at the first result.
            found = make_index()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = make_evaluation(truth, found, kind)
    evaluation.params.areaRng = [list(area) for area in areas]
    evaluation.params.areaRngLbl = [str(place) for place in range(len(areas))]
    evaluation.params.maxDets = list(MOST_DETECTIONS)
    return evaluation


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    """The ids of a file counted from 1 in their order: faster-coco-eval refuses negative ones."""

    images: Mapping[int, int]
    classes: Mapping[int, int]


def _truth(file: CocoFile, numbers: _Numbers, kind: Kind) -> dict[str, Any]:
    images = [image for image in file.images if image.id in numbers.images]
    objects: list[dict[str, Any]] = []
    for image in images:
        size = (image.height, image.width)
        for one in image.annotations:
            mask = segmentation_rle(one.segmentation, size) if kind == "segm" else None
            if kind == "segm" and mask is None:
                continue
            shape: dict[str, Any] = {} if mask is None else {"segmentation": mask}
            # Counted anew: for both libraries, an object with the id 0 is never found.
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": numbers.images[image.id],
                    "category_id": numbers.classes[one.category_id],
                    "bbox": list(one.box),
                    "area": one.area,
                    "iscrowd": int(one.is_crowd),
                    **shape,
                }
            )
    return {
        "info": {},
        "images": [
            {"id": numbers.images[image.id], "height": image.height, "width": image.width} for image in images
        ],
        "categories": [{"id": numbers.classes[one.id], "name": one.name} for one in file.categories],
        "annotations": objects,
    }


def _library(evaluator: Evaluator) -> tuple[Any, Any]:
    """The classes of the objects of a file and of their evaluation."""
    name, index, evaluation = _MODULES[evaluator]
    try:
        if evaluator == "pycocotools":
            return (
                getattr(import_module(f"{name}.coco"), index),
                getattr(import_module(f"{name}.cocoeval"), evaluation),
            )
        module = import_module(name)
    except ImportError as error:
        raise missing_library("detection", evaluator) from error
    return getattr(module, index), getattr(module, evaluation)


def average_precisions(
    hits: Int[ndarray, "curves detections"],
    misses: Int[ndarray, "curves detections"],
    num_objects: Int[ndarray, " curves"],
) -> Float[ndarray, " curves"]:
    """The average precision of each of many curves, by COCO's definition.

    Args:
        hits: How often each detection, by falling score, found an object.
        misses: How often it found none; where it is ignored, it did neither.
        num_objects: How many there are to find, at least one.
    """
    num_curves, num_detections = hits.shape
    if not num_detections:
        return np.zeros(num_curves)
    found = np.cumsum(hits, axis=1)
    precision = found / (found + np.cumsum(misses, axis=1) + np.spacing(1))
    # The best at this recall or a higher one.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # The fewest objects whose fraction of all is a recall, in the arithmetic of floats.
    total = num_objects[:, None]
    needed = np.floor(_RECALLS * total).astype(np.int64)
    needed += needed / total < _RECALLS
    needed -= (needed - 1) / total >= _RECALLS
    # One search for all curves: the counts of each lie above those of the curve before.
    row = np.arange(num_curves)[:, None]
    step = int(num_objects.max()) + 1
    places = np.searchsorted((found + row * step).ravel(), needed + row * step, side="left")
    is_reached = places < (row + 1) * num_detections
    values = best.ravel()[np.minimum(places, best.size - 1)]
    return np.where(is_reached, values, 0.0).mean(axis=1)


def mean_of_objects(values: Float[ndarray, "*axes"]) -> float | None:
    """The mean of those numbers that are not -1, COCO's mark for no object; None where all are."""
    there = values[values > -1]
    return float(np.mean(there)) if there.size else None
