"""Errors by kind, on scenes where one can say what they are, and scores by the size of objects."""

import math

import numpy as np
import pytest

from lambdanets.detection.analysis import size_bins, split_errors
from lambdanets.detection.evaluation import evaluate_predictions
from lambdanets.detection.matching import accumulate, mean_of_objects
from lambdanets.errors import ArgumentError, DataError
from support.detections import (
    file_of,
    image_of,
    object_of,
    perfect_results,
    random_file,
    random_results,
    result_of,
)

KINDS = ("class", "place", "both", "double", "background", "missed")
CAT, DOG = 1, 7


def scene():
    """A cat, a dog and a crowd of cats."""
    return file_of(
        image_of(
            1,
            object_of(1, (10, 10, 40, 40), CAT),
            object_of(2, (100, 10, 40, 40), DOG),
            object_of(3, (10, 70, 60, 40), CAT, crowd=True),
        )
    )


@pytest.mark.parametrize(
    ("box", "category", "counts"),
    [
        ((10, 10, 40, 40), DOG, {"class": 1, "missed": 1}),
        ((30, 10, 40, 40), CAT, {"place": 1, "missed": 1}),
        ((30, 10, 40, 40), DOG, {"both": 1, "missed": 2}),
        ((60, 10, 30, 30), CAT, {"background": 1, "missed": 2}),
        # An IoU of 40 / 760 with the cat is too little.
        ((48, 10, 40, 40), CAT, {"background": 1, "missed": 2}),
        # On the crowd: neither right nor wrong.
        ((15, 75, 30, 30), CAT, {"missed": 2}),
        ((10, 10, 40, 40), CAT, {"missed": 1}),
    ],
)
def test_a_detection_is_of_the_kind_that_one_sees(box, category, counts):
    file = scene()
    found = split_errors(file, [result_of(file.images[0], box, 0.5, category)])
    assert found.counts == {kind: counts.get(kind, 0) for kind in KINDS}


def test_the_second_detection_of_an_object_is_double_whatever_else_it_touches():
    file = scene()
    results = [
        result_of(file.images[0], box, score, CAT)
        for box, score in (((10, 10, 40, 40), 0.9), ((12, 10, 40, 40), 0.8), ((11, 10, 40, 40), 0.95))
    ]
    found = split_errors(file, results)
    assert found.counts == {kind: {"double": 2, "missed": 1}.get(kind, 0) for kind in KINDS}
    assert found.ap_50 == pytest.approx(0.5)


def test_what_an_error_costs_is_what_is_gained_without_it():
    """Cats: right, then one badly placed. Dogs: missed, with a false one of high score."""
    file = file_of(
        image_of(1, object_of(1, (10, 10, 40, 40), CAT), object_of(2, (100, 10, 40, 40), CAT)),
        image_of(2, object_of(3, (10, 10, 40, 40), DOG), object_of(4, (80, 60, 40, 40), DOG)),
    )
    first, second = file.images
    results = [
        result_of(first, (10, 10, 40, 40), 0.9, CAT),
        result_of(first, (120, 10, 40, 40), 0.8, CAT),
        result_of(second, (120, 5, 30, 30), 0.7, DOG),
        result_of(second, (10, 10, 40, 40), 0.6, DOG),
    ]
    found = split_errors(file, results)
    assert found.counts == {"class": 0, "place": 1, "both": 0, "double": 0, "background": 1, "missed": 1}
    half = 51 / 101
    assert found.ap_50 == pytest.approx((half + half / 2) / 2)
    gains = {
        # Both cats are found.
        "place": (1 + half / 2) / 2,
        # The dog comes first.
        "background": (half + half) / 2,
        # One dog to be found, at a precision of one half.
        "missed": (half + 0.5) / 2,
    }
    for kind, cost in found.costs.items():
        assert cost == pytest.approx(gains.get(kind, found.ap_50) - found.ap_50), kind
    assert found.to_dict() == {"box_ap_50": found.ap_50, "counts": found.counts, "costs": found.costs}


def test_a_class_put_right_counts_once():
    """Two dogs called cats at the same place: one would be right, the other left out."""
    file = file_of(image_of(1, object_of(1, (10, 10, 40, 40), DOG), object_of(2, (90, 10, 40, 40), CAT)))
    results = [
        result_of(file.images[0], box, score, CAT)
        for box, score in (((10, 10, 40, 40), 0.9), ((11, 10, 40, 40), 0.8), ((90, 10, 40, 40), 0.3))
    ]
    found = split_errors(file, results)
    assert found.counts["class"] == 2 and found.counts["missed"] == 0
    assert found.ap_50 == pytest.approx((1 / 3 + 0) / 2)
    assert found.costs["class"] == pytest.approx(1 - found.ap_50)


@pytest.mark.parametrize("seed", range(3))
def test_every_detection_is_right_wrong_or_on_a_crowd(seed):
    file = random_file(seed, num_images=20)
    results = random_results(file, seed)
    found = split_errors(file, results)
    scores = evaluate_predictions(file, results, masks=False)
    assert found.ap_50 == pytest.approx(scores.box["box_ap_50"], abs=1e-12)
    assert all(found.counts[kind] > 0 for kind in KINDS)
    assert all(cost > -1e-12 for cost in found.costs.values())
    assert sum(found.counts.values()) - found.counts["missed"] < len(results)


def test_perfect_and_empty_predictions_have_the_errors_one_expects():
    file = random_file(num_images=8)
    num_objects = sum(not one.is_crowd for image in file.images for one in image.annotations)
    perfect = split_errors(file, perfect_results(file))
    assert set(perfect.counts.values()) == {0} and set(perfect.costs.values()) == {0.0}
    empty = split_errors(file, [])
    assert empty.counts == {kind: num_objects * (kind == "missed") for kind in KINDS}
    assert empty.costs["missed"] == 1.0 and empty.costs["place"] == 0.0
    none = split_errors(file_of(image_of(1)), [])
    assert none.ap_50 is None and set(none.costs.values()) == {None}


def test_objects_are_counted_in_the_bin_of_their_size():
    file = random_file(1, num_images=30)
    results = random_results(file, 1)
    bins = size_bins(file, results, masks=True)
    sides = [math.sqrt(one.area) for image in file.images for one in image.annotations if not one.is_crowd]
    assert len(bins) == 8
    assert bins[0].low <= min(sides) and bins[-1].high >= max(sides)
    assert sum(one.num_objects for one in bins) == len(sides)
    factors = [one.high / one.low for one in bins]
    assert max(factors) / min(factors) < 1.01
    for one in bins:
        # The judge's own ranges of areas.
        area = ((one.low**2, float(np.nextafter(one.high**2, 0))),)
        judged = accumulate(file, results, "segm", evaluator="pycocotools", areas=area)
        assert one.mask_ap == mean_of_objects(judged.precision[..., 0, -1])
        assert one.num_objects == sum(one.low <= side < one.high for side in sides)


def test_bins_of_coco_have_the_scores_of_coco():
    file = random_file(2, num_images=30)
    results = random_results(file, 2)
    scores = evaluate_predictions(file, results, masks=True)
    small, medium, large = size_bins(file, results, masks=True, edges=(0.0, 32.0, 96.0, 1e5))
    assert (small.box_ap, medium.box_ap) == (scores.box["box_ap_small"], scores.box["box_ap_medium"])
    assert large.mask_ap == scores.mask["mask_ap_large"]
    assert small.to_dict()["num_objects"] == small.num_objects > 0


def test_a_file_of_one_size_or_of_none_has_bins_too():
    one = file_of(image_of(1, object_of(1, (10, 10, 40, 40), area=1600)))
    bins = size_bins(one, [result_of(one.images[0], (10, 10, 40, 40), 0.5)], masks=False)
    assert [bin.num_objects for bin in bins] == [1] + [0] * 7
    assert bins[0].box_ap == pytest.approx(1) and bins[1].box_ap is None and bins[0].mask_ap is None
    (whole,) = size_bins(file_of(image_of(1)), [], masks=False)
    assert whole.num_objects == 0 and whole.box_ap is None


def test_what_makes_no_sense_is_refused():
    file = random_file()
    for edges in ((1.0,), (3.0, 2.0), (-1.0, 2.0)):
        with pytest.raises(
            ArgumentError, match=r"^size_bins: edges must be two rising sizes or more, got \["
        ):
            size_bins(file, [], masks=False, edges=edges)
    for analyse in (split_errors, lambda *both: size_bins(*both, masks=False)):
        with pytest.raises(DataError, match=r"^results: image ids must be"):
            analyse(file, [{"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}])
