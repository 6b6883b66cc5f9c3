"""Jitter, crop, copy-paste and padding: objects stay on their pixels, and no rule is broken."""

import numpy as np
import pytest
import torch
from PIL import Image

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.coco import Annotation, ImageRecord
from lambdanets.detection.geometry import whole_view
from lambdanets.detection.samples import (
    Drawing,
    Sample,
    collate,
    fitted_view,
    jittered_view,
    paste_objects,
)
from support.coco import polygon_box, rectangle

CANVAS = CocoConfig(root="x", image_size=64)
SHORTEST = CocoConfig(root="x", image_size=96, shortest_side=48)
MASKS = Drawing(labels={3: 1, 90: 2}, masks=True, rasterise=True)
BOXES = Drawing(labels={3: 1, 90: 2}, masks=False, rasterise=False)

# Of an image of 120×90.
KITE = [60.3, 10.2, 100.6, 44.9, 61.2, 79.8, 22.5, 46.1]


def annotation(polygon=None, **more):
    keys = {
        "id": 1,
        "category_id": 3,
        "box": tuple(map(float, polygon_box(polygon))) if polygon else (0.0, 0.0, 1.0, 1.0),
        "segmentation": [polygon] if polygon else None,
        "area": 1.0,
        "is_crowd": False,
    }
    return Annotation(**(keys | more))


def record(*annotations, width=120, height=90):
    return ImageRecord(id=1, file_name="x.png", width=width, height=height, annotations=annotations)


def drawn(polygon, width=120, height=90):
    """White where the polygon is, black elsewhere."""
    return Image.fromarray(np.repeat(bitmap(polygon, width, height)[..., None] * 255, 3, axis=2))


def bitmap(polygon, width=120, height=90):
    return whole_view(width, height, (height, width)).mask([polygon], (height, width))


def draws(seed):
    return np.random.default_rng(seed).random(4).tolist()


@pytest.mark.parametrize("config", [CANVAS, SHORTEST], ids=["canvas", "shortest"])
@pytest.mark.parametrize("kind", ["polygon", "run lengths"])
def test_objects_stay_on_their_pixels(config, kind):
    segmentation = [KITE]
    if kind == "run lengths":
        changes = np.flatnonzero(np.diff(bitmap(KITE).ravel("F"), prepend=0))
        counts = np.diff(changes, prepend=0, append=90 * 120).tolist()
        segmentation = {"size": [90, 120], "counts": counts}
    entry = annotation(KITE, segmentation=segmentation)
    image, jitter = drawn(KITE), JitterConfig(min_scale=0.6, max_scale=3.0)
    seen = 0
    for seed in range(60):
        view = jittered_view(120, 90, config, jitter, draws(seed))
        sample = MASKS.sample(image, record(entry), view)
        white = sample.pixels[0].numpy() > 127
        if not len(sample.labels):
            assert white.sum() < 20
            continue
        seen += 1
        mask = sample.masks[0].astype(bool)
        # The outline: a pixel on either side.
        assert (white != mask).sum() < 0.06 * white.sum() + 2 * sum(view.size) / 10
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(sample.boxes[0], extent, atol=2 * max(view.scale) + 1)
        assert sample.pixels.shape[1:] == sample.masks.shape[1:] == view.size
    assert seen > 50


@pytest.mark.parametrize("size", [(1, 1), (1, 8000), (8000, 1), (8000, 6000), (120, 90), (63, 65)])
@pytest.mark.parametrize("config", [CANVAS, SHORTEST], ids=["canvas", "shortest"])
def test_a_view_fits_the_image_and_the_square(size, config):
    width, height = size
    jitter = JitterConfig(min_scale=0.1, max_scale=2.0)
    for seed in range(200):
        view = jittered_view(width, height, config, jitter, draws(seed))
        left, top, right, bottom = view.rectangle
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert all(1 <= length <= config.image_size for length in view.size)
    view = fitted_view(width, height, config)
    assert view.rectangle == (0, 0, width, height) and not view.flip and max(view.size) <= config.image_size


def test_scales_cover_their_range_and_crops_the_image():
    jitter = JitterConfig(min_scale=0.5, max_scale=2.0, flip=0.25)
    views = [jittered_view(640, 480, CANVAS, jitter, draws(seed)) for seed in range(2000)]
    fitted = 64 / 640
    factors = np.array([view.scale[1] / fitted for view in views])
    assert 0.45 < factors.min() < 0.55 and 1.95 < factors.max() < 2.05
    # Even: as many below the middle as above.
    assert abs((factors < 1.25).mean() - 0.5) < 0.05
    assert abs(np.mean([view.flip for view in views]) - 0.25) < 0.03
    # Both directions have one scale, up to the rounding to whole pixels.
    assert all(abs(view.scale[0] - view.scale[1]) < 0.6 / min(view.size) for view in views)
    assert min(view.rectangle[0] for view in views) == 0
    assert max(view.rectangle[2] for view in views) == 640


def test_what_is_left_out():
    objects = (
        annotation(rectangle(10.0, 10.0, 30.0, 20.0)),
        annotation(rectangle(50.0, 50.0, 9.0, 9.0), is_crowd=True),
        # Less than a pixel wide when halved.
        annotation(rectangle(20.0, 20.0, 1.9, 30.0)),
        annotation(rectangle(200.0, 20.0, 30.0, 30.0)),
        annotation(None, box=(60.0, 60.0, 20.0, 20.0), category_id=90),
        annotation(None, box=(60.0, 60.0, 0.0, 20.0)),
        annotation(rectangle(30.0, 60.0, 20.0, 20.0), box=(50.0, 60.0, -20.0, 20.0)),
    )
    image = Image.new("RGB", (120, 90))
    view = whole_view(120, 90, (45, 60))
    with_masks = MASKS.sample(image, record(*objects), view)
    assert with_masks.boxes.tolist() == [[5, 5, 20, 15]] and with_masks.labels.tolist() == [1]
    boxes = BOXES.sample(image, record(*objects), view)
    assert boxes.boxes.tolist() == [[5, 5, 20, 15], [30, 30, 40, 40]] and boxes.labels.tolist() == [1, 2]
    # Without masks but for pasting, an object is its box.
    pasting = Drawing(labels={3: 1, 90: 2}, masks=False, rasterise=True)
    masks = pasting.sample(image, record(*objects), view).masks
    assert masks.sum((1, 2)).tolist() == [150, 100]
    for drawing in (MASKS, BOXES):
        empty = drawing.sample(image, record(objects[1]), view)
        assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,) and empty.masks.shape == (0, 45, 60)


def plain(size, *rectangles, value=0, label=1):
    """An image of one grey with rectangles (left, top, right, bottom) as objects."""
    masks = np.zeros((len(rectangles), *size), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, rectangles, strict=True):
        mask[top:bottom, left:right] = 1
    return Sample(
        pixels=torch.full((3, *size), value, dtype=torch.uint8),
        boxes=np.array(rectangles, dtype=np.float64).reshape(-1, 4),
        labels=np.full(len(rectangles), label),
        masks=masks,
        scale=(1.0, 1.0),
    )


def test_pasted_objects_hide_what_is_below():
    onto = plain((20, 30), (0, 0, 10, 10), (12, 0, 22, 10), (0, 12, 10, 20))
    source = plain((24, 16), (5, 0, 14, 10), (0, 11, 10, 20), (0, 21, 3, 24), value=200, label=2)
    pasted = paste_objects(onto, source, np.array([0.1, 0.4, 0.6]))
    # Half of the first is hidden, a fifth of the second, the third wholly; one of the source is not pasted.
    assert pasted.labels.tolist() == [1, 1, 2, 2]
    assert pasted.boxes.tolist() == [[0, 0, 5, 10], [14, 0, 22, 10], [5, 0, 14, 10], [0, 11, 10, 20]]
    assert pasted.pixels.shape == (3, 24, 30) and pasted.masks.shape == (4, 24, 30)
    assert not (pasted.masks.sum(0) > 1).any()
    assert torch.equal(pasted.pixels[0] == 200, torch.from_numpy(pasted.masks[2:].any(0)))


def test_an_object_of_which_little_is_seen_is_dropped():
    onto = plain((20, 30), (0, 0, 10, 10), (10, 0, 20, 10))
    source = plain((20, 30), (1, 0, 10, 10), (10, 0, 20, 9), (10, 9, 11, 10), label=2)
    # Exactly a tenth is left of the first, nine hundredths of the second.
    assert paste_objects(onto, source, np.zeros(3)).labels.tolist() == [1, 2, 2, 2]


def test_nothing_to_paste():
    onto = plain((20, 30), (0, 0, 10, 10))
    assert paste_objects(onto, plain((50, 50)), np.zeros(0)) is onto
    assert paste_objects(onto, plain((50, 50), (0, 0, 40, 40)), np.array([0.5])) is onto
    alone = paste_objects(plain((20, 30)), plain((20, 30), (3, 4, 8, 9)), np.zeros(1))
    assert alone.boxes.tolist() == [[3, 4, 8, 9]]


@pytest.mark.parametrize(("canvas", "size"), [(None, (24, 30)), (40, (40, 40))])
def test_a_batch_is_padded(canvas, size):
    samples = [plain((20, 30), (0, 0, 10, 10), value=7), plain((24, 16), value=9)]
    images, targets = collate(samples, [5, 6], canvas, masks=True)
    assert images.shape == (2, 3, *size)
    assert images.sum().item() == 3 * (7 * 20 * 30 + 9 * 24 * 16)
    assert (images[0, :, :20, :30] == 7).all()
    assert [target["masks"].shape for target in targets] == [(1, *size), (0, *size)]
    assert [target["size"].tolist() for target in targets] == [[20, 30], [24, 16]]
    assert [target["image_id"].item() for target in targets] == [5, 6]
    assert targets[1]["boxes"].shape == (0, 4) and targets[1]["boxes"].dtype == torch.float32
    assert collate(samples, [5, 6], canvas, masks=False)[1][0]["masks"].shape == (1, 0, 0)
