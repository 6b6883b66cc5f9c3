"""Detection in whole images and in tiles: pixels of the original, each object once."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from lambdanets.data.detection import CocoConfig
from lambdanets.detection.data import fit_image
from lambdanets.detection.drawing import DrawnObject, draw_objects
from lambdanets.detection.predict import Tiling, detect
from lambdanets.errors import ArgumentError
from support.colored_detector import ColoredDetector, painted
from support.detectors import small_detector
from support.images import photo


def config(size):
    return CocoConfig(root="images", image_size=size)


def found_boxes(found):
    return sorted(
        (label, *map(round, box))
        for label, box in zip(found.labels.tolist(), found.boxes.tolist(), strict=True)
    )


def test_boxes_and_masks_are_in_pixels_of_the_original():
    objects = [(1, 40, 20, 120, 60), (2, 200, 100, 280, 180)]
    model = ColoredDetector()
    found = detect(model, painted(320, 200, *objects), config(160))
    assert model.sizes == [(100, 160)] and found_boxes(found) == objects[:0] + sorted(objects)
    # The larger object has the higher score, and comes first.
    assert found.labels.tolist() == [2, 1] and found.scores[0] > found.scores[1]
    for box, rle in zip(found.boxes.round().int().tolist(), found.masks, strict=True):
        mask = coco_mask.decode(rle)
        assert mask.shape == (200, 320)
        rows, columns = np.nonzero(mask)
        spread = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(spread) - box).max() <= 1


def test_scores_below_the_least_are_left_out():
    image = painted(100, 100, (1, 10, 10, 60, 60), (1, 80, 80, 84, 84))
    assert len(detect(ColoredDetector(), image, config(100))) == 2
    assert found_boxes(detect(ColoredDetector(), image, config(100), min_score=0.9)) == [(1, 10, 10, 60, 60)]


def test_nothing_found():
    for tiling in (None, Tiling(side=40)):
        found = detect(ColoredDetector(), painted(100, 50), config(100), tiling=tiling)
        assert len(found) == 0 and found.masks == () and found.boxes.shape == (0, 4)
        assert list(found.results(1, (3, 7))) == []


def test_a_detector_without_masks():
    found = detect(ColoredDetector(masks=False), painted(64, 64, (2, 8, 8, 40, 40)), config(64))
    assert found.masks is None
    (result,) = found.results(5, (3, 7))
    assert result.keys() == {"image_id", "category_id", "bbox", "score"}
    assert (result["image_id"], result["category_id"], result["bbox"]) == (5, 7, [8, 8, 32, 32])


@pytest.mark.parametrize("seed", range(4))
def test_tiles_find_each_object_once(seed):
    """Objects of 12 to 70 px anywhere: some across one border of a tile, some across two."""
    draw = np.random.default_rng(seed)
    objects = []
    for top in range(0, 300, 75):
        for left in range(0, 400, 80):
            width, height = draw.integers(12, 71, 2)
            x, y = left + draw.integers(0, 76 - width), top + draw.integers(0, 72 - height)
            objects.append((int(draw.integers(1, 3)), int(x), int(y), int(x + width), int(y + height)))
    model = ColoredDetector()
    image = painted(400, 300, *objects)
    # The whole image is shown at a third of its size: small objects have boxes that are off by pixels.
    found = detect(model, image, config(128), min_score=0.0, tiling=Tiling(side=128, overlap=0.6))
    assert len(found) == len(objects)
    for expected, got in zip(sorted(objects), found_boxes(found), strict=True):
        assert expected[0] == got[0] and np.abs(np.subtract(expected, got)).max() <= 3


def test_an_object_larger_than_a_tile_is_found_whole():
    found = detect(
        ColoredDetector(), painted(400, 300, (1, 30, 40, 370, 260)), config(100), tiling=Tiling(side=100)
    )
    ((label, *box),) = found_boxes(found)
    assert label == 1 and np.abs(np.subtract(box, (30, 40, 370, 260))).max() <= 4


def test_a_cut_object_stays_where_no_whole_one_is():
    """The detector finds it in no tile whole, and not in the whole image."""

    class Blind(ColoredDetector):
        def __call__(self, images):
            found = super().__call__(images)
            if len(self.sizes) == len(images):
                found[0] = {name: values[:0] for name, values in found[0].items()}
            return found

    found = detect(
        Blind(), painted(200, 60, (1, 60, 10, 140, 50)), config(100), tiling=Tiling(side=100, overlap=0.0)
    )
    assert found_boxes(found) == [(1, 60, 10, 100, 50), (1, 100, 10, 140, 50)]


def test_objects_of_two_classes_at_one_place_stay():
    class Doubtful(ColoredDetector):
        def __call__(self, images):
            found = super().__call__(images)
            for one in found:
                one.update({name: torch.cat([values, values]) for name, values in one.items()})
                one["labels"][len(one["labels"]) // 2 :] = 2
            return found

    found = detect(Doubtful(), painted(200, 200, (1, 20, 20, 60, 60)), config(200), tiling=Tiling(side=120))
    assert found_boxes(found) == [(1, 20, 20, 60, 60), (2, 20, 20, 60, 60)]


@pytest.mark.parametrize(
    ("width", "height", "side", "overlap"), [(400, 300, 128, 0.25), (1000, 90, 100, 0.0), (77, 513, 64, 0.9)]
)
def test_tiles_cover_the_image_with_the_overlap(width, height, side, overlap):
    windows = Tiling(side=side, overlap=overlap).windows(width, height)
    seen = np.zeros((height, width), bool)
    for left, top, right, bottom in windows:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert (right - left, bottom - top) == (min(side, width), min(side, height))
        seen[top:bottom, left:right] = True
    assert seen.all() and len(set(windows)) == len(windows)
    for axis in (0, 1):
        starts = sorted({window[axis] for window in windows})
        steps = np.diff(starts)
        assert len(steps) == 0 or steps.max() <= max(1, side * (1 - overlap)) + 1


def test_an_image_of_one_tile_is_looked_at_once():
    model = ColoredDetector()
    detect(model, painted(90, 60), config(90), tiling=Tiling(side=100))
    assert len(model.sizes) == 1


def test_tilings_out_of_range():
    with pytest.raises(ArgumentError, match=r"^Tiling: side must be at least 1, got 0\.$"):
        Tiling(side=0)
    with pytest.raises(ArgumentError, match=r"^Tiling: overlap must be at least 0 and below 1, got 1\.0\.$"):
        Tiling(overlap=1.0)


def test_a_real_detector():
    """Random weights: what the network says of the resized image, in pixels of the original."""
    model = small_detector(least_score=0.0).eval()
    image = Image.fromarray(photo(120, 80))
    found = detect(model, image, config(60), min_score=0.0)
    pixels, scale = fit_image(image, config(60))
    with torch.inference_mode():
        (raw,) = model([pixels.float() / 255])
    height, width = scale
    expected = [
        [x1 / width, y1 / height, x2 / width, y2 / height]
        for (x1, y1, x2, y2) in raw["boxes"].tolist()
        if x2 > x1 and y2 > y1
    ]
    assert len(found) == len(expected) > 50
    assert torch.allclose(found.boxes, torch.tensor(expected, dtype=torch.float64), atol=1e-4)
    assert all(mask["size"] == [80, 120] for mask in found.masks)
    tiled = detect(model, image, config(60), min_score=0.0, tiling=Tiling(side=50))
    assert (
        len(tiled) > 0
        and tiled.boxes.min() >= 0
        and (tiled.boxes.amax(dim=0) <= torch.tensor([120, 80] * 2)).all()
    )


@pytest.mark.parametrize("tiling", [None, Tiling(side=512)])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (8000, 3), (3, 8000)])
def test_images_of_odd_shapes(width, height, tiling):
    image = painted(width, height, (1, 0, 0, max(1, width // 2), max(1, height // 2)))
    found = detect(ColoredDetector(), image, config(64), min_score=0.0, tiling=tiling)
    assert (found.boxes >= 0).all() and (found.boxes <= torch.tensor([width, height, width, height])).all()
    assert all(mask["size"] == [height, width] for mask in found.masks)
    shown = [DrawnObject(box=tuple(box), text="red", color=(255, 0, 0)) for box in found.boxes.tolist()]
    drawn = draw_objects(image, shown)
    assert max(drawn.size) == max(640, width, height)
