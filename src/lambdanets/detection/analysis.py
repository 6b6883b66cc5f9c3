"""Errors of a detector by kind, with what each costs, and its precision by the size of objects."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lambdanets.detection.coco import CocoFile
from lambdanets.detection.matching import (
    AREAS,
    KINDS,
    Result,
    accumulate,
    average_precisions,
    check_results,
    match,
    mean_of_objects,
)
from lambdanets.detection.rle import box_overlaps
from lambdanets.errors import ArgumentError

Error: TypeAlias = Literal["class", "place", "both", "double", "background", "missed"]

_NUM_BINS: Final = 8
_FOREGROUND: Final = 0.5
_BACKGROUND: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class ErrorSplit:
    """The errors of the boxes of a detector, by kind.

    A detection is right where COCO's matching at an IoU of 0.5 gives it an object of its class. The others,
    but for those on a crowd, are each of the first kind that fits:

    - double: IoU of 0.5 with an object of its class, which a higher score has;
    - class: IoU of 0.5 with an object of another class;
    - place: IoU of 0.1 with an object of its class;
    - both: IoU of 0.1 with an object of another class;
    - background: no such object.

    An object is missed if no detection has it, nor any of the kinds class and place is nearest to it.

    Attributes:
        ap_50: Average precision of boxes at an IoU of 0.5; None without objects.
        counts: How many errors of each kind.
        costs: What `ap_50` would gain if there were none of a kind: class and place put right where nothing
            else has the object, and left out where something has; the others left out; missed objects not
            asked for. None without objects.
    """

    ap_50: float | None
    counts: dict[Error, int]
    costs: dict[Error, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"box_ap_50": self.ap_50, "counts": self.counts, "costs": self.costs}


@dataclass(frozen=True, kw_only=True)
class SizeBin:
    """The average precision of objects of a range of sizes.

    Attributes:
        low: Smallest root of an object's area, in pixels.
        high: Largest.
        num_objects: How many objects, without crowds.
        box_ap: Average precision; None without objects.
        mask_ap: The same for masks.
    """

    low: float
    high: float
    num_objects: int
    box_ap: float | None
    mask_ap: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A detection: what it is, and the object that is right for it or nearest to it.

    Attributes:
        number: Its place among the results, from 1; with `image_ids`, among those of these images.
        category: The place of its class among the categories, from 1.
        score: Its score.
        error: What is wrong with it; None where it is right.
        target: Number of the object, as `Judgement.objects` has it; None for errors without one.
        target_category: The class of the object of an error, as `category`.
    """

    number: int
    category: int
    score: float
    error: Error | None
    target: int | None = None
    target_category: int | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All detections and objects of a file.

    Attributes:
        detections: By falling score, less those on a crowd.
        objects: The class of each object that is no crowd (as `Judged.category`), by its number: objects are
            counted from 1 in the order of the file, crowds too.
        missed: Numbers of the missed objects.
    """

    detections: list[Judged]
    objects: dict[int, int]
    missed: set[int]


def judge(
    file: CocoFile, results: Sequence[Result], *, image_ids: Collection[int] | None = None
) -> Judgement:
    """Tell right boxes from wrong ones, by the kinds of `ErrorSplit`.

    Args:
        file: The objects.
        results: Detections.
        image_ids: The images that count; all unless given.

    Raises:
        DataError: A result does not fit the file.
    """
    check_results(file, results, masks=False)
    matching = match(file, results, "bbox", areas=(AREAS["all"],), image_ids=image_ids)
    found: list[Judged] = []
    objects: dict[int, int] = {}
    for place, (truth, detections) in enumerate(zip(matching.objects, matching.detections, strict=True)):
        records = [areas[0][place] for areas in matching.records]
        wanted = [one for one in truth if not one["iscrowd"]]
        objects |= {one["id"]: one["category_id"] for one in wanted}
        found += _judged({one["id"]: one for one in detections}, wanted, records)
    found.sort(key=lambda one: -one.score)
    claimed = {one.target for one in found if one.error in (None, "class", "place")}
    return Judgement(detections=found, objects=objects, missed=objects.keys() - claimed)


def split_errors(
    file: CocoFile, results: Sequence[Result], *, image_ids: Collection[int] | None = None
) -> ErrorSplit:
    """Sort the errors of boxes by kind, in the manner of TIDE.

    Args:
        file: The objects.
        results: Detections.
        image_ids: The images that count; all unless given.

    Raises:
        DataError: A result does not fit the file.
    """
    judgement = judge(file, results, image_ids=image_ids)
    found, objects, missed = judgement.detections, judgement.objects, judgement.missed
    counts = Counter(one.error for one in found if one.error is not None)
    ap_50 = _mean_precision(found, objects)
    fixed = {error: _fixed(found, error) for error in get_args(Error)}
    asked = {number: category for number, category in objects.items() if number not in missed}
    gained = {
        error: _mean_precision(fixed[error], asked if error == "missed" else objects)
        for error in get_args(Error)
    }
    return ErrorSplit(
        ap_50=ap_50,
        counts={error: len(missed) if error == "missed" else counts[error] for error in get_args(Error)},
        costs={
            # Nothing is asked for any more where all was missed.
            error: None if ap_50 is None else (1.0 if gain is None else gain) - ap_50
            for error, gain in gained.items()
        },
    )


def _judged(
    detections: dict[int, dict[str, Any]],
    objects: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any] | None],
) -> list[Judged]:
    """The detections of an image with their errors, less those that are ignored."""
    found = []
    for record in records:
        if record is None:
            continue
        for number, matched, ignored in zip(
            record["dtIds"], record["dtMatches"][0], record["dtIgnore"][0], strict=True
        ):
            if not ignored:
                one = detections[number]
                found.append(
                    Judged(
                        number=number,
                        category=one["category_id"],
                        score=one["score"],
                        error=None,
                        target=int(matched),
                    )
                    if matched
                    else _wrong(one, objects)
                )
    return found


def _wrong(detection: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Judged:
    """A detection that found nothing, and why."""
    category = detection["category_id"]
    overlaps = box_overlaps([detection["bbox"]], [one["bbox"] for one in objects])[0]
    is_same = np.array([one["category_id"] == category for one in objects], dtype=bool)
    nearest = [
        int(np.argmax(np.where(mask, overlaps, -1))) if mask.any() else None for mask in (is_same, ~is_same)
    ]
    same, other = (0.0 if place is None else overlaps[place] for place in nearest)
    error: Error
    if same >= _FOREGROUND:
        error = "double"
    elif other >= _FOREGROUND:
        error = "class"
    elif same >= _BACKGROUND:
        error = "place"
    elif other >= _BACKGROUND:
        error = "both"
    else:
        error = "background"
    aim = nearest[1] if error == "class" else nearest[0] if error == "place" else None
    aimed = {} if aim is None else objects[aim]
    return Judged(
        number=detection["id"],
        category=category,
        score=detection["score"],
        error=error,
        target=aimed.get("id"),
        target_category=aimed.get("category_id"),
    )


def _fixed(found: Sequence[Judged], error: Error) -> list[Judged]:
    """The detections, by falling score, without the errors of a kind."""
    taken = {one.target for one in found if one.error is None}
    fixed = []
    for one in found:
        if one.error != error:
            fixed.append(one)
        elif one.target is not None and one.target not in taken and one.target_category is not None:
            taken.add(one.target)
            fixed.append(replace(one, error=None, category=one.target_category))
    return fixed


def _mean_precision(found: Sequence[Judged], objects: dict[int, int]) -> float | None:
    """Average precision at the one threshold, over the classes that have objects."""
    precisions = []
    for category, num_objects in sorted(Counter(objects.values()).items()):
        hits = np.array([[one.error is None for one in found if one.category == category]], dtype=np.int64)
        precisions.append(average_precisions(hits, 1 - hits, np.array([num_objects]))[0])
    return float(np.mean(precisions)) if precisions else None


def size_bins(
    file: CocoFile,
    results: Sequence[Result],
    *,
    masks: bool,
    edges: Sequence[float] | None = None,
    image_ids: Collection[int] | None = None,
) -> list[SizeBin]:
    """Score detections by the size of the objects, which is the root of their area.

    Args:
        file: The objects.
        results: Detections.
        masks: Masks too.
        edges: Rising sizes in pixels; an object on an edge belongs above it. Unless given, 8 bins whose
            edges grow by the same factor, from the smallest object to the largest.
        image_ids: The images that count; all unless given.

    Raises:
        DataError: A result does not fit the file.
    """
    check_results(file, results, masks=masks)
    sizes = np.sqrt(
        [
            max(one.area, 0.0)
            for image in file.images
            for one in image.annotations
            if not one.is_crowd and (image_ids is None or image.id in image_ids)
        ]
    )
    edges = _edges(sizes) if edges is None else list(edges)
    if len(edges) < 2 or min(np.diff(edges)) <= 0 or edges[0] < 0:
        raise ArgumentError(f"size_bins: edges must be two rising sizes or more, got {edges}.")
    # Both ends belong to a range of the evaluators.
    areas = [(low**2, float(np.nextafter(high**2, 0))) for low, high in pairwise(edges)]
    curves = {
        name: accumulate(file, results, kind, areas=areas, image_ids=image_ids)
        for name, kind in KINDS.items()
        if name == "box" or masks
    }
    bins = []
    for place, (low, high) in enumerate(pairwise(edges)):
        scores = {
            name: mean_of_objects(curve.precision[:, :, :, place, -1]) for name, curve in curves.items()
        }
        inside = [areas[place][0] <= size**2 <= areas[place][1] for size in sizes]
        bins.append(
            SizeBin(
                low=low,
                high=high,
                num_objects=int(sum(inside)),
                box_ap=scores["box"],
                mask_ap=scores.get("mask"),
            )
        )
    return bins


def _edges(sizes: Float[ndarray, " objects"]) -> list[float]:
    """Edges with two digits behind the point around all sizes, from one to the next by the same factor."""
    there = sizes[sizes > 0]
    if not there.size:
        return [0.0, 1e5]
    low, high = np.floor(100 * there.min()) / 100, np.floor(100 * there.max() + 1) / 100
    low = max(low, 0.01)
    return np.round(np.geomspace(low, max(high, 2 * low), _NUM_BINS + 1), 2).tolist()
