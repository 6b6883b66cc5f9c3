"""Scores: the judge's to the last digit, 1 for perfect predictions, the same for any number of processes."""

import contextlib
import io
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lambdanets.analysis.memory import peak_bytes_of_process
from lambdanets.detection.evaluation import (
    Predictions,
    evaluate_predictions,
    read_results,
    write_results,
)
from lambdanets.detection.matching import accumulate
from lambdanets.errors import ArgumentError, DataError, DependencyError, PathError
from lambdanets.published.settings import TABLE_14
from lambdanets.training.distributed import ALONE, DistributedContext
from support.detections import (
    detections_of,
    file_of,
    image_of,
    object_of,
    perfect_results,
    random_file,
    random_results,
    result_of,
    target_of,
)
from support.processes import run_ranks

# Names in the order of the 12 numbers that pycocotools prints.
SIZES = ("small", "medium", "large")
NAMES = ("ap", "ap_50", "ap_75", *(f"ap_{size}" for size in SIZES))
NAMES += ("ar_1", "ar_10", "ar_100", *(f"ar_{size}" for size in SIZES))


def judged(file, results, kind):
    """The 12 numbers of pycocotools, from a file of its own form."""
    objects = [
        {
            "id": number,
            "image_id": image.id,
            "category_id": one.category_id,
            "bbox": list(one.box),
            "area": one.area,
            "iscrowd": int(one.is_crowd),
            "segmentation": one.segmentation,
        }
        for number, (image, one) in enumerate(
            ((image, one) for image in file.images for one in image.annotations), 1
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [
                {"id": image.id, "height": image.height, "width": image.width} for image in file.images
            ],
            "categories": [{"id": one.id, "name": one.name} for one in file.categories],
            "annotations": objects,
        }
        truth.createIndex()
        wanted = "bbox" if kind == "bbox" else "segmentation"
        keys = ("image_id", "category_id", "score", wanted)
        found = truth.loadRes([{key: result[key] for key in keys} for result in results])
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if number == -1 else float(number) for number in evaluation.stats]


@pytest.mark.parametrize("seed", range(3))
def test_both_evaluators_give_the_numbers_of_the_judge_to_the_last_digit(seed):
    file = random_file(seed)
    results = random_results(file, seed)
    expected = {
        f"{name}_{key}": number
        for name, kind in (("box", "bbox"), ("mask", "segm"))
        for key, number in zip(NAMES, judged(file, results, kind), strict=True)
    }
    assert 0.05 < expected["box_ap"] < 0.9 and expected["mask_ap"] != expected["box_ap"]
    for evaluator in ("faster-coco-eval", "pycocotools"):
        assert evaluate_predictions(file, results, masks=True, evaluator=evaluator).named == expected
    for kind in ("bbox", "segm"):
        fast, slow = (
            accumulate(file, results, kind, evaluator=name) for name in ("faster-coco-eval", "pycocotools")
        )
        assert np.array_equal(fast.precision, slow.precision) and np.array_equal(fast.recall, slow.recall)


def test_the_names_are_those_of_the_published_table():
    file = random_file()
    scores = evaluate_predictions(file, random_results(file), masks=True)
    assert scores.named.keys() >= TABLE_14[0].values.keys()
    assert scores.to_dict()["box_ap_small"] == scores.box["box_ap_small"]
    assert json.loads(json.dumps(scores.to_dict())) == scores.to_dict()


@pytest.mark.parametrize("evaluator", ["faster-coco-eval", "pycocotools"])
def test_perfect_predictions_score_one_and_empty_ones_zero(evaluator):
    file = random_file(num_images=8)
    perfect = evaluate_predictions(file, perfect_results(file), masks=True, evaluator=evaluator)
    few = ("box_ar_1", "mask_ar_1")  # an image has more objects of a class than one
    assert {number for name, number in perfect.named.items() if name not in few} == {1.0}
    empty = evaluate_predictions(file, [], masks=True, evaluator=evaluator)
    assert set(empty.named.values()) == {0.0}
    # Nothing of the last class is there to be found.
    assert [one.scores["mask_ap"] for one in perfect.classes] == [1.0, 1.0, None]
    assert [one.scores["box_ap"] for one in empty.classes] == [0.0, 0.0, None]
    assert [one.num_objects for one in empty.classes] == [
        sum(
            one.category_id == number and not one.is_crowd
            for image in file.images
            for one in image.annotations
        )
        for number in (1, 7, 90)
    ]


@pytest.mark.parametrize("evaluator", ["faster-coco-eval", "pycocotools"])
def test_without_objects_there_is_no_score(evaluator):
    crowd = object_of(1, (5, 5, 40, 40), crowd=True)
    file = file_of(image_of(1), image_of(2, crowd))
    for results in ([], [result_of(file.images[0], (1, 1, 20, 20), 0.5)]):
        scores = evaluate_predictions(file, results, masks=True, evaluator=evaluator)
        assert set(scores.named.values()) == {None}


def test_average_precision_of_a_few_boxes_is_what_one_counts_by_hand():
    """Two objects; found first, then a false one, then the second at an IoU of 0.6."""
    file = file_of(image_of(1, object_of(1, (10, 10, 40, 40)), object_of(2, (100, 50, 50, 50))))
    image = file.images[0]
    results = [
        result_of(image, (10, 10, 40, 40), 0.9),
        result_of(image, (60, 5, 20, 20), 0.8),
        result_of(image, (100, 50, 50, 30), 0.7),
    ]
    scores = evaluate_predictions(file, results, masks=False)
    # Recalls 0, 0.01, ... 0.5 are reached at precision 1, those up to 1 at 2/3 or not at all.
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert scores.box["box_ap_50"] == pytest.approx(low, rel=1e-12)
    assert scores.box["box_ap_75"] == pytest.approx(high, rel=1e-12)
    # 0.60 itself counts as found.
    assert scores.box["box_ap"] == pytest.approx((3 * low + 7 * high) / 10, rel=1e-12)
    assert scores.box["box_ar_100"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)
    assert scores.box["box_ar_1"] == 0.5
    assert scores.mask is None and "mask_ap" not in scores.to_dict()


def test_an_object_without_a_mask_counts_for_boxes_alone():
    whole = object_of(1, (10, 10, 40, 40))
    bare = replace(whole, id=2, box=(60.0, 60.0, 30.0, 30.0), segmentation=[])
    file = file_of(image_of(1, whole, bare))
    scores = evaluate_predictions(file, [result_of(file.images[0], (10, 10, 40, 40), 0.9)], masks=True)
    assert scores.mask["mask_ap"] == pytest.approx(1, rel=1e-15) and scores.box["box_ap"] == pytest.approx(
        51 / 101
    )


def test_the_size_of_a_mask_is_its_own_and_not_that_of_its_box():
    """A thin false mask in a large box is ignored among large objects only if its own area decides."""
    file = file_of(image_of(1, object_of(1, (2, 2, 150, 110))))
    image = file.images[0]
    thin = [5.0, 5.0, 150.0, 115.0, 151.0, 114.0, 6.0, 4.0]
    results = [
        result_of(image, (5, 5, 146, 110), 0.9, points=thin),
        result_of(image, (2, 2, 150, 110), 0.5),
    ]
    scores = evaluate_predictions(file, results, masks=True)
    assert scores.mask["mask_ap_large"] == pytest.approx(1, rel=1e-15)
    assert scores.mask["mask_ap"] == pytest.approx(0.5)


def test_a_part_of_the_images_is_marked_as_such():
    file = random_file()
    results = random_results(file)
    part = [image.id for image in file.images[:5]]
    scores = evaluate_predictions(file, results, masks=True, image_ids=part)
    alone = evaluate_predictions(
        file_of(*file.images[:5]), [one for one in results if one["image_id"] in part], masks=True
    )
    assert scores.named == alone.named
    assert scores.is_subset and not alone.is_subset
    assert (scores.to_dict()["images"], scores.to_dict()["of_images"]) == (5, 12)
    assert scores.to_dict()["subset"] is True


def test_nothing_is_printed(capsys):
    file = random_file()
    for evaluator in ("faster-coco-eval", "pycocotools"):
        evaluate_predictions(file, random_results(file), masks=True, evaluator=evaluator)
    assert capsys.readouterr() == ("", "")


def test_predictions_are_in_the_ids_and_pixels_of_the_file():
    file = file_of(image_of(5), image_of(3, width=200, height=100))
    predictions = Predictions(file, masks=True)
    # The canvas has two pixels for one across and four down.
    found = detections_of([[20, 40, 60, 80], [-8, 4, 500, 500]], [2, 3], [0.9, 0.25])
    predictions.add([target_of(1, (4.0, 2.0)), target_of(0)], [found, detections_of([], [], [])])
    results = predictions.results()
    assert predictions.image_ids == (3, 5)
    assert [one["image_id"] for one in results] == [3, 3]
    assert [one["category_id"] for one in results] == [7, 90]
    assert [one["bbox"] for one in results] == [[10, 10, 20, 10], [0, 1, 200, 99]]
    assert [one["score"] for one in results] == [pytest.approx(0.9), 0.25]
    assert all(one["segmentation"]["size"] == [100, 200] for one in results)


def test_the_judge_reads_what_is_written(tmp_path):
    file = random_file()
    predictions = Predictions(file, masks=True)
    for place in range(len(file.images)):
        predictions.add([target_of(place)], [detections_of([[9, 9, 60, 70]] * 3, [1, 2, 2], [0.5, 0.6, 0.7])])
    path = tmp_path / "results.json"
    write_results(path, predictions.results())
    assert read_results(path) == predictions.results()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": one.id, "height": 120, "width": 160} for one in file.images],
            "categories": [],
            "annotations": [],
        }
        truth.createIndex()
        found = truth.loadRes(str(path))
    assert len(found.anns) == 36
    assert found.annToRLE(found.anns[1])["size"] == [120, 160]


def shards_of(file, size, seed=0):
    """What each of `size` processes collects, each in an order of its own."""
    shards = []
    for rank in range(size):
        predictions = Predictions(file, masks=True)
        places = [*range(rank, len(file.images), size)]
        for place in places[:: 1 if rank % 2 else -1]:
            draw = np.random.default_rng((seed, place))
            image = file.images[place]
            boxes = [
                [x, y, x + width, y + height]
                for one in image.annotations
                for x, y, width, height in [np.array(one.box) + draw.normal(0, 1, 4)]
            ]
            labels = [1 if one.category_id == 1 else 2 for one in image.annotations]
            # Scores are often equal, so that the order of the images would show.
            scores = draw.integers(5, 8, len(boxes)) / 8
            predictions.add([target_of(place)], [detections_of(boxes, labels, scores, seed=place)])
        shards.append(predictions)
    return shards


class Gathered(DistributedContext):
    """A context that finds the others' shards in a list."""

    def __init__(self, shards):
        super().__init__(size=len(shards))
        object.__setattr__(self, "shards", shards)

    def all_gather(self, value):
        return [shard._found for shard in self.shards]


def test_any_number_of_processes_gives_the_same_results_and_scores():
    file = random_file(3)
    (alone,) = shards_of(file, 1)
    whole = alone.gather(ALONE)
    expected = evaluate_predictions(file, whole.results(), masks=True)
    assert 0 < expected.box["box_ap"] < 1
    for size in (2, 3):
        for shards in itertools.permutations(shards_of(file, size)):
            gathered = shards[0].gather(Gathered(shards))
            assert gathered.results() == whole.results()
            assert gathered.image_ids == whole.image_ids
    assert evaluate_predictions(file, gathered.results(), masks=True) == expected


def _scored_in_process(ctx, file):
    whole = shards_of(file, ctx.size)[ctx.rank].gather(ctx)
    scores = ctx.from_main(lambda: evaluate_predictions(file, whole.results(), masks=True))
    return whole.results(), scores.to_dict()


@pytest.mark.slow
def test_two_real_processes_give_the_numbers_of_one():
    file = random_file(3)
    (alone,) = shards_of(file, 1)
    expected = alone.results(), evaluate_predictions(file, alone.results(), masks=True).to_dict()
    assert run_ranks(_scored_in_process, 2, file) == [expected, expected]


def test_an_image_that_comes_twice_is_refused():
    file = random_file()
    predictions = Predictions(file, masks=False)
    predictions.add([target_of(0)], [detections_of([], [], [])])
    message = r"^Predictions: every image must come once, got image 1000 again\.$"
    with pytest.raises(ArgumentError, match=message):
        predictions.add([target_of(0)], [detections_of([], [], [])])
    message = r"^Predictions: every image must come once, got image 1000 from two processes\.$"
    with pytest.raises(ArgumentError, match=message):
        predictions.gather(Gathered([predictions, predictions]))


def test_results_that_do_not_fit_are_refused():
    file = random_file()
    good = random_results(file)
    for change, message in (
        (
            {"score": None},
            r"results: each must have image_id, category_id, bbox, score, segmentation, got none"
            r" of score in the one at 1\.",
        ),
        ({"image_id": 4}, r"results: image ids must be those of objects\.json, got 4\. Are they of another"),
        (
            {"category_id": 2},
            r"results: category ids must be those of objects\.json, got 2\. Are classes cou",
        ),
    ):
        with pytest.raises(DataError, match=f"^{message}"):
            evaluate_predictions(file, [good[0], {**good[1], **change}], masks=True)
    with pytest.raises(
        ArgumentError, match=r"^evaluate_predictions: evaluator must be one of 'faster-coco-eval'"
    ):
        evaluate_predictions.__wrapped__(file, good, masks=True, evaluator="own")


def test_files_that_are_no_results_are_refused(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(
        PathError, match=r"^results: .*results\.json must be a file of COCO's JSON of results, got"
    ):
        read_results(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"^results: .*results\.json must hold JSON, got no JSON \(Expecting"):
        read_results(path)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"^results: .* must hold a list of detections, got dict\. A file of"):
        read_results(path)


def test_a_library_that_is_missing_is_named(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr("lambdanets.detection.matching.import_module", refuse)
    with pytest.raises(
        DependencyError,
        match=r"^detection: faster-coco-eval must be installed, got none\. pip install faster",
    ):
        evaluate_predictions(random_file(), [], masks=False)


def _growth_with_large_masks(ctx):
    """Bytes that the process grows by while 300 masks of a 12 MP image are encoded."""
    file = file_of(image_of(1, width=4000, height=3000))
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=draw) * torch.tensor([3000.0, 2200.0])
    boxes = torch.cat([corners, corners + torch.tensor([900.0, 700.0])], dim=1)
    boxes[0] = torch.tensor([0.0, 0.0, 4000.0, 3000.0])
    found = detections_of(boxes.tolist(), [1] * 300, [0.5] * 300)
    predictions = Predictions(file, masks=True)
    before = peak_bytes_of_process("cpu")
    predictions.add([target_of(0)], [found])
    return peak_bytes_of_process("cpu") - before, len(predictions.results())


@pytest.mark.slow
def test_masks_of_a_large_image_are_never_beside_each_other():
    """As bytes they would be 3.6 GB, as float32 14.4 GB. One that fills the image is 55 MB as float32."""
    (((growth, count)),) = run_ranks(_growth_with_large_masks, 1)
    assert count == 300
    assert growth < 250e6
