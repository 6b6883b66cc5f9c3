"""Drawings: where boxes, masks and labels are, that they can be read, and colors that differ."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from lambdanets.detection.drawing import DrawnObject, class_color, draw_objects


def rle(height, width, top, left, bottom, right):
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[top:bottom, left:right] = 1
    return coco_mask.encode(mask)


def grey(width, height):
    return Image.new("RGB", (width, height), (90, 90, 90))


def test_a_mask_is_blended_and_nothing_else_changes():
    image = grey(800, 700)
    one = DrawnObject(
        box=(100.0, 100.0, 300.0, 400.0), text="", color=(0, 255, 0), mask=rle(700, 800, 150, 120, 350, 280)
    )
    pixels = np.asarray(draw_objects(image, [one])).astype(int)
    # 55 % of grey and 45 % of the color.
    assert (pixels[150:350, 120:280] == np.round([0.55 * 90, 0.55 * 90 + 0.45 * 255, 0.55 * 90])).all()
    outside = np.ones((700, 800), bool)
    outside[95:405, 95:305] = False
    assert (pixels[outside] == 90).all() and (np.asarray(image) == 90).all()
    # The box is drawn along its border, and not inside of it.
    assert (pixels[100, 110:290] == (0, 255, 0)).all() and (pixels[399, 110:290] == (0, 255, 0)).all()
    assert (pixels[110:390, 100] == (0, 255, 0)).all() and (pixels[110:140, 110:290] == 90).all()


@pytest.mark.parametrize("size", [(160, 160), (640, 480), (4000, 3000)])
def test_a_label_is_legible_at_any_size(size):
    """A label of letters as high as a 45th of the drawing, and never below 12."""
    width, height = size
    box = (0.25 * width, 0.5 * height, 0.75 * width, 0.9 * height)
    bare, labelled = (
        np.asarray(draw_objects(grey(*size), [DrawnObject(box=box, text=text, color=(255, 255, 0))]))
        for text in ("", "digit 0.98")
    )
    assert bare.shape[1] == (640 if width == 160 else width)
    changed = (bare != labelled).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    longest = max(bare.shape)
    assert np.ptp(rows) >= 10 and longest / 60 < np.ptp(rows) < longest / 20
    # It stands on the upper border of the box, at its left end, black on yellow.
    scale = bare.shape[1] / width
    assert abs(columns[0] - box[0] * scale) <= 3 and abs(rows[-1] - box[1] * scale) <= 4 * scale + 4
    letters = labelled[rows[0] : rows[-1], columns[0] : columns[-1]].min(axis=2) < 40
    assert (labelled[rows[0], columns[2 : len(columns) // 2]] == (255, 255, 0)).mean() > 0.9 and letters.any()


def test_labels_stay_inside_and_do_not_cover_each_other():
    boxes = [(0.0, 0.0, 600.0, 600.0), (0.0, 0.0, 640.0, 640.0), (630.0, 300.0, 640.0, 320.0)]
    objects = [DrawnObject(box=box, text=f"object {n}", color=class_color(n)) for n, box in enumerate(boxes)]
    pixels = np.asarray(draw_objects(grey(640, 640), objects))
    areas = []
    for one in objects:
        filled = (pixels == one.color).all(axis=2)
        # Lines of a box are 2 px wide: 5 px in a row are of a label.
        runs = np.lib.stride_tricks.sliding_window_view(filled, (5, 5)).all(axis=(2, 3))
        assert runs.any()
        areas.append(runs)
    assert not (areas[0] & areas[1]).any()


def test_a_box_beyond_the_border_is_drawn_at_it():
    one = DrawnObject(box=(-20.0, 600.0, 700.0, 900.0), text="", color=(255, 0, 0))
    pixels = np.asarray(draw_objects(grey(640, 640), [one]))
    for line in (pixels[605:, 0], pixels[605:, -1], pixels[-1]):
        assert (line == (255, 0, 0)).all()


def test_the_first_object_is_uppermost():
    box = (100.0, 100.0, 400.0, 400.0)
    pair = [DrawnObject(box=box, text="", color=color) for color in ((255, 0, 0), (0, 0, 255))]
    assert tuple(np.asarray(draw_objects(grey(640, 640), pair))[100, 200]) == (255, 0, 0)


def test_colors_of_classes_differ():
    colors = np.array([class_color(place) for place in range(80)])
    assert len({tuple(color) for color in colors}) == 80
    first = colors[:10].astype(int)
    distances = np.abs(first[:, None] - first[None]).sum(axis=2) + 999 * np.eye(10)
    assert distances.min() > 60


def test_an_empty_mask_and_one_pixel():
    one = DrawnObject(box=(3.0, 3.0, 3.2, 3.1), text="dot", color=(255, 0, 0), mask=rle(8, 8, 0, 0, 0, 0))
    drawn = draw_objects(grey(8, 8), [one])
    assert drawn.size == (640, 640) and (np.asarray(drawn)[245] == (255, 0, 0)).all(axis=1).any()
    assert draw_objects(grey(1, 1), []).size == (640, 640)
