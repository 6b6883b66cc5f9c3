"""Intervals over images: weights against files that really hold an image twice, and what a pair must show."""

from dataclasses import replace

import numpy as np
import pytest

from lambdanets.data.seeds import generator, purpose
from lambdanets.detection.bootstrap import pair, resample
from lambdanets.detection.evaluation import evaluate_predictions
from lambdanets.errors import ArgumentError, DataError
from support.detections import file_of, image_of, object_of, random_file, random_results, result_of

# The means are taken in another order.
TOLERANCE = 1e-12


def spread(results, seed=0):
    """The same results without two scores that are equal, whose order a file with repeats may change."""
    draw = np.random.default_rng((seed, 2))
    return [{**one, "score": one["score"] + draw.random() / 1e3} for one in results]


def test_the_images_as_they_are_have_the_scores_of_the_judge():
    file = random_file(4)
    results = random_results(file, 4)
    scores = evaluate_predictions(file, results, masks=True, evaluator="pycocotools")
    found = resample(file, results, masks=True, num_resamples=1).values
    assert set(found) == {name for name in scores.named if "_ap" in name}
    for name, value in found.items():
        assert value == pytest.approx(scores.named[name], abs=TOLERANCE)


def test_a_resample_has_the_scores_of_a_file_with_these_images():
    file = random_file(5, num_images=8)
    results = spread(random_results(file, 5))
    found = resample(file, results, masks=False, num_resamples=5, seed=3).samples
    draws = generator(purpose("bootstrap over images"), 3).multinomial(8, [1 / 8] * 8, size=5)
    assert draws.max() > 1 and draws.min() == 0
    in_order = sorted(file.images, key=lambda image: image.id)
    for place, draw in enumerate(draws):
        images, copies = [], []
        for image, times in zip(in_order, draw, strict=True):
            for _ in range(times):
                images.append(replace(image, id=len(images)))
                copies += [
                    {**one, "image_id": images[-1].id} for one in results if one["image_id"] == image.id
                ]
        scores = evaluate_predictions(file_of(*images), copies, masks=False, evaluator="pycocotools")
        for name, samples in found.items():
            expected = scores.named[name]
            if expected is None:
                assert np.isnan(samples[place])
            else:
                assert samples[place] == pytest.approx(expected, abs=TOLERANCE)


def test_the_interval_is_that_of_the_quantiles_and_holds_the_value():
    file = random_file(6, num_images=40)
    found = resample(file, random_results(file, 6), masks=False, num_resamples=300)
    interval = found.interval("box_ap")
    ordered = np.sort(found.samples["box_ap"]) - found.samples["box_ap"].mean() + interval.value
    assert ordered[6] <= interval.low <= ordered[8] and ordered[291] <= interval.high <= ordered[293]
    assert interval.low < interval.value < interval.high


def test_four_times_as_many_images_halve_the_interval():
    file = random_file(6, num_images=10)
    results = random_results(file, 6)
    images = [replace(image, id=image.id + 1000 * copy) for image in file.images for copy in range(4)]
    copies = [{**one, "image_id": one["image_id"] + 1000 * copy} for one in results for copy in range(4)]
    one = resample(file, results, masks=False, num_resamples=300).interval("box_ap")
    four = resample(file_of(*images), copies, masks=False, num_resamples=300).interval("box_ap")
    assert 0.4 < (four.high - four.low) / (one.high - one.low) < 0.6


def test_draws_follow_from_the_seed():
    file = random_file(7)
    results = random_results(file)
    one, again, other = (
        resample(file, results, masks=False, num_resamples=9, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.samples["box_ap"], again.samples["box_ap"])
    assert not np.array_equal(one.samples["box_ap"], other.samples["box_ap"])


def test_a_run_that_is_better_in_each_image_is_better_in_each_resample():
    """The gain is sure although each run's own interval is wide."""
    objects = [image_of(number, object_of(number, (10, 10, 40, 40))) for number in range(1, 21)]
    file = file_of(*objects)
    good, bad = [], []
    for place, image in enumerate(file.images):
        if place % 2:
            good.append(result_of(image, (10, 10, 40, 40), 0.5))
        if place % 4 == 1:
            bad.append(result_of(image, (10, 10, 40, 40), 0.5))
    a, b = (resample(file, run, masks=True, num_resamples=200) for run in (good, bad))
    paired = pair(a, b)["box_ap"]
    assert paired.a.value == pytest.approx(51 / 101) and paired.b.value == pytest.approx(26 / 101)
    assert paired.difference.low > 0 and paired.a_better > 0.97
    # Each for itself: the intervals meet.
    assert paired.a.low < paired.b.high
    assert pair(b, a)["box_ap"].a_better == pytest.approx(1 - paired.a_better)
    assert pair(a, a)["mask_ap"].difference.value == 0.0 and pair(a, a)["mask_ap"].a_better == 0.5


def test_a_score_without_objects_has_no_interval():
    file = file_of(image_of(1, object_of(1, (10, 10, 10, 10))), image_of(2))
    run = resample(file, [result_of(file.images[0], (10, 10, 10, 10), 0.5)], masks=False, num_resamples=50)
    assert np.isnan(run.samples["box_ap"]).any()
    paired = pair(run, run)
    assert paired["box_ap_small"].difference.to_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert paired["box_ap_large"].to_dict() == {
        "a": {"value": None, "low": None, "high": None},
        "b": {"value": None, "low": None, "high": None},
        "difference": {"value": None, "low": None, "high": None},
        "a_better": None,
    }


def test_what_cannot_be_compared_is_refused():
    file = random_file()
    results = random_results(file)
    run = resample(file, results, masks=False, num_resamples=2)
    with pytest.raises(ArgumentError, match=r"^pair: both runs must be of the same seed, got others\. Score"):
        pair(run, resample(file, results, masks=False, num_resamples=2, seed=1))
    with pytest.raises(
        ArgumentError, match=r"^pair: both runs must be of the same images, got others\. Score"
    ):
        pair(run, resample(file, results, masks=False, num_resamples=2, image_ids=[1000, 993]))
    with pytest.raises(ArgumentError, match=r"^resample: num_resamples must be at least 1, got 0\.$"):
        resample(file, results, masks=False, num_resamples=0)
    with pytest.raises(ArgumentError, match=r"^resample: images must be at least 1, got 0\.$"):
        resample(file, results, masks=False, image_ids=[])
    with pytest.raises(DataError, match=r"^results: each must have"):
        resample(file, [{"image_id": 1000}], masks=False)
