"""How sure an average precision is: images drawn again and again, one run alone and two runs paired."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lambdanets.data.seeds import generator, purpose
from lambdanets.detection.coco import CocoFile
from lambdanets.detection.matching import (
    AREAS,
    KINDS,
    Result,
    average_precisions,
    check_results,
    match,
)
from lambdanets.errors import ArgumentError, check_positive

_LEVEL: Final = 0.95
# Of one array: a few of them fit into a cache.
_MOST_NUMBERS: Final = 200_000
_PURPOSE: Final = purpose("bootstrap over images")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An average precision, or a difference of two, and where it may lie.

    Attributes:
        value: That of the images as they are; None without objects.
        low: Its 2.5 % quantile over the resamples, which are moved so that their mean is the value.
        high: Its 97.5 % quantile.
    """

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Plain data for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Scores of one run over images drawn with replacement; the same draws for each run with a seed.

    Attributes:
        images: Ids of the images that were drawn from.
        seed: What the draws follow from.
        values: `box_ap` and so on of the images as they are, NaN without objects.
        samples: The same of each resample.
    """

    images: tuple[int, ...]
    seed: int
    values: Mapping[str, float]
    samples: Mapping[str, Float[ndarray, " resamples"]]

    def interval(self, name: str) -> Interval:
        """The 95 % interval of a score."""
        return _interval(self.values[name], self.samples[name])


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A score of two runs over the same images.

    Attributes:
        a: That of the first.
        b: That of the second.
        difference: The first less the second, image by image the same draws.
        a_better: Fraction of the resamples in which the first is higher; an equal one counts half. None
            without objects.
    """

    a: Interval
    b: Interval
    difference: Interval
    a_better: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "difference": self.difference.to_dict(),
            "a_better": self.a_better,
        }


def resample(
    file: CocoFile,
    results: Sequence[Result],
    *,
    masks: bool,
    num_resamples: int = 1000,
    seed: int = 0,
    image_ids: Collection[int] | None = None,
) -> Resampled:
    """Score detections on images drawn with replacement, as many as there are, again and again.

    Detections and objects are matched once, by pycocotools. A draw gives each image a weight, and what is
    added up is weighted: the same numbers as those of a file that holds an image twice or not at all.

    Args:
        file: The objects.
        results: Detections.
        masks: Masks too.
        num_resamples: How many draws.
        seed: Another one draws others.
        image_ids: The images that count; all unless given.

    Raises:
        DataError: A result does not fit the file.
    """
    check_positive("resample", num_resamples=num_resamples)
    check_results(file, results, masks=masks)
    wanted = {image.id for image in file.images} if image_ids is None else {*image_ids}
    images = tuple(sorted(image.id for image in file.images if image.id in wanted))
    if not images:
        raise ArgumentError("resample: images must be at least 1, got 0.")
    chances = np.full(len(images), 1 / len(images))
    weights = generator(_PURPOSE, seed).multinomial(len(images), chances, size=num_resamples)
    weights = np.concatenate([np.ones((1, len(images)), dtype=weights.dtype), weights])
    found: dict[str, Float[ndarray, " draws"]] = {}
    for name, kind in KINDS.items():
        if name == "box" or masks:
            # Ids of images are put in order by pycocotools too.
            records = match(file, results, kind, image_ids=wanted).records
            found |= {f"{name}_{key}": values for key, values in _scores(records, weights).items()}
    return Resampled(
        images=images,
        seed=seed,
        values={name: float(values[0]) for name, values in found.items()},
        samples={name: values[1:] for name, values in found.items()},
    )


def pair(a: Resampled, b: Resampled) -> dict[str, Paired]:
    """Compare two runs score by score, those that both have.

    Raises:
        ArgumentError: They are not of the same draws of the same images.
    """
    for what in ("images", "seed"):
        if getattr(a, what) != getattr(b, what):
            raise ArgumentError(f"pair: both runs must be of the same {what}, got others. Score both anew.")
    return {
        name: Paired(
            a=a.interval(name),
            b=b.interval(name),
            difference=_interval(a.values[name] - b.values[name], a.samples[name] - b.samples[name]),
            a_better=_fraction_better(a.values[name] - b.values[name], a.samples[name] - b.samples[name]),
        )
        for name in a.values
        if name in b.values
    }


def _interval(value: float, samples: Float[ndarray, " resamples"]) -> Interval:
    around = _around(value, samples)
    if not around.size:
        return Interval(value=None, low=None, high=None)
    low, high = np.quantile(around, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]).tolist()
    return Interval(value=float(value), low=low, high=high)


def _fraction_better(value: float, differences: Float[ndarray, " resamples"]) -> float | None:
    around = _around(value, differences)
    return float(np.mean((around > 0) + 0.5 * (around == 0))) if around.size else None


def _around(value: float, samples: Float[ndarray, " resamples"]) -> Float[ndarray, " there"]:
    """Resamples that have objects, moved so that their mean is the value.

    A resample scores higher on average, the more so the fewer objects a class has: precision is the best at
    any higher recall, and chance makes the best better.
    """
    there = samples[~np.isnan(samples)]
    return there[:0] if np.isnan(value) else there - there.mean() + value if there.size else there


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    """The detections of a class by falling score, at each IoU threshold; those that are ignored are neither.

    Attributes:
        places: Place of the image of each.
        hits: Whether it found an object.
        misses: Whether it found none.
        num_objects: How many objects to find in each image.
    """

    places: Int[ndarray, " detections"]
    hits: Bool[ndarray, "thresholds detections"]
    misses: Bool[ndarray, "thresholds detections"]
    num_objects: Int[ndarray, " images"]


def _rank(records: Sequence[dict[str, Any] | None]) -> _Ranked | None:
    """Bring the records of all images together; None where there is no object."""
    num_objects = np.zeros(len(records), dtype=np.int64)
    places, scores, hits, misses = [], [], [], []
    for place, record in enumerate(records):
        if record is None:
            continue
        num_objects[place] = np.count_nonzero(np.asarray(record["gtIgnore"]) == 0)
        matched, ignored = record["dtMatches"] > 0, record["dtIgnore"].astype(bool)
        places.append(np.full(len(record["dtScores"]), place))
        scores.append(np.array(record["dtScores"], dtype=np.float64))
        hits.append(matched & ~ignored)
        misses.append(~matched & ~ignored)
    if not num_objects.any():
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit, miss = (np.concatenate(parts, axis=1)[:, order] for parts in (hits, misses))
    # Among objects of one size, most detections are ignored.
    counts = (hit | miss).any(axis=0)
    return _Ranked(
        places=np.concatenate(places)[order][counts],
        hits=hit[:, counts],
        misses=miss[:, counts],
        num_objects=num_objects,
    )


def _scores(
    records: Sequence[Sequence[Sequence[dict[str, Any] | None]]], weights: Int[ndarray, "draws images"]
) -> dict[str, Float[ndarray, " draws"]]:
    """The mean over classes of each score for each draw."""
    sums = np.zeros((len(weights), len(AREAS), 10))
    counts = np.zeros((len(weights), len(AREAS), 1))
    for areas in records:
        for place, images in enumerate(areas):
            if ranked := _rank(images):
                is_there = weights @ ranked.num_objects > 0
                counts[is_there, place] += 1
                part = max(1, _MOST_NUMBERS // max(ranked.hits.size, 1))
                for draws in np.array_split(np.flatnonzero(is_there), -(-is_there.sum() // part)):
                    sums[draws, place] += _weighted(ranked, weights[draws])
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    found = {"ap": means[:, 0].mean(axis=1), "ap_50": means[:, 0, 0], "ap_75": means[:, 0, 5]}
    for place, area in enumerate([*AREAS][1:], 1):
        found[f"ap_{area}"] = means[:, place].mean(axis=1)
    return found


def _weighted(ranked: _Ranked, weights: Int[ndarray, "some images"]) -> Float[ndarray, "some thresholds"]:
    """The average precision at each IoU threshold, each image as often as its weight says."""
    weight = weights[:, None, ranked.places]
    num_thresholds, num_detections = ranked.hits.shape
    curves = len(weights) * num_thresholds
    return average_precisions(
        (ranked.hits * weight).reshape(curves, num_detections),
        (ranked.misses * weight).reshape(curves, num_detections),
        np.repeat(weights @ ranked.num_objects, num_thresholds),
    ).reshape(len(weights), num_thresholds)
