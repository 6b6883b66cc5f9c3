"""Views of images: points, boxes, polygons and bitmaps against plain loops, and against each other."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as judge

from lambdanets.detection.coco import Annotation
from lambdanets.detection.geometry import (
    View,
    box_of_mask,
    corner_boxes,
    fitted_size,
    has_shape,
    is_visible,
    whole_view,
)

WIDTH, HEIGHT = 60, 44
STAR = [
    30.2,
    3.1,
    35.7,
    17.4,
    55.3,
    18.2,
    39.6,
    26.8,
    46.1,
    41.3,
    30.4,
    32.5,
    13.8,
    41.9,
    20.3,
    26.1,
    4.9,
    18.4,
    24.8,
    17.6,
]
VIEWS = [
    whole_view(WIDTH, HEIGHT, (HEIGHT, WIDTH)),
    View(rectangle=(0, 0, 60, 44), size=(97, 132)),
    View(rectangle=(0, 0, 60, 44), size=(20, 31), flip=True),
    View(rectangle=(11, 7, 43, 39), size=(64, 64)),
    View(rectangle=(25, 0, 60, 30), size=(101, 90), flip=True),
]


def annotation(segmentation=None, box=(1.0, 2.0, 3.0, 4.0)):
    return Annotation(id=1, category_id=1, box=box, segmentation=segmentation, area=1.0, is_crowd=False)


def inside(polygon, x, y):
    """Whether a point is in a polygon: by the edges that a ray to the right crosses."""
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    crossed = 0
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            crossed += 1
    return crossed % 2 == 1


def source(view, row, column):
    """The point of the image that the middle of a pixel of the view shows."""
    left, top, right, bottom = view.rectangle
    column = view.size[1] - 1 - column if view.flip else column
    return (
        left + (column + 0.5) * (right - left) / view.size[1],
        top + (row + 0.5) * (bottom - top) / view.size[0],
    )


@pytest.mark.parametrize("view", VIEWS)
def test_a_polygon_is_drawn_where_it_is_seen(view):
    drawn = view.mask([STAR], (HEIGHT, WIDTH))
    expected = np.zeros(view.size, dtype=bool)
    for row in range(view.size[0]):
        for column in range(view.size[1]):
            expected[row, column] = inside(STAR, *source(view, row, column))
    assert drawn.shape == expected.shape and drawn.dtype == np.uint8
    wrong = expected != drawn
    # COCO's rasteriser rounds corners: pixels at the outline alone may differ.
    padded = np.pad(expected, 1, mode="edge")
    near = [
        padded[1 + down : 1 + down + view.size[0], 1 + right : 1 + right + view.size[1]]
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    outline = np.any(near, axis=0) & ~np.all(near, axis=0)
    assert not (wrong & ~outline).any()
    assert wrong.sum() < 0.4 * outline.sum()


@pytest.mark.parametrize("view", VIEWS)
def test_a_bitmap_is_moved_by_the_nearest_pixel(view):
    bitmap = (np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5).astype(np.uint8)
    moved = view.bitmap(bitmap)
    for row in range(view.size[0]):
        for column in range(view.size[1]):
            x, y = source(view, row, column)
            # A middle on an edge belongs to either pixel.
            assert moved[row, column] in {
                bitmap[int(y - 1e-9), int(x - 1e-9)],
                bitmap[int(y + 1e-9), int(x + 1e-9)],
            }


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("view", VIEWS)
def test_run_lengths_and_polygons_agree(view, kind):
    encoded = judge.merge(judge.frPyObjects([STAR], HEIGHT, WIDTH))
    rle = {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
    whole = judge.decode(encoded)
    assert np.array_equal(VIEWS[0].mask(rle, (HEIGHT, WIDTH)), whole)
    if kind == "list":
        changes = np.flatnonzero(np.diff(whole.ravel("F"), prepend=0))
        rle["counts"] = np.diff(changes, prepend=0, append=whole.size).tolist()
    moved, drawn = view.mask(rle, (HEIGHT, WIDTH)), view.mask([STAR], (HEIGHT, WIDTH))
    assert np.array_equal(moved, view.bitmap(whole))
    assert (moved & drawn).sum() > 0.9 * (moved | drawn).sum()


def test_at_its_own_size_a_mask_is_that_of_pycocotools():
    view = VIEWS[0]
    polygons = [STAR, [1.0, 1.0, 9.0, 1.0, 9.0, 9.0], [1.0, 2.0, 3.0, 4.0]]
    expected = judge.decode(judge.merge(judge.frPyObjects(polygons[:2], HEIGHT, WIDTH)))
    assert np.array_equal(view.mask(polygons, (HEIGHT, WIDTH)), expected)
    assert not view.mask([], (HEIGHT, WIDTH)).any() and not view.mask(None, (HEIGHT, WIDTH)).any()


@pytest.mark.parametrize("view", VIEWS)
def test_a_flip_exchanges_left_and_right_and_twice_is_none(view):
    other = View(rectangle=view.rectangle, size=view.size, flip=not view.flip)
    bitmap = (np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.5).astype(np.uint8)
    assert np.array_equal(other.bitmap(bitmap), view.bitmap(bitmap)[:, ::-1])
    points = np.random.default_rng(2).random((50, 2)) * (WIDTH, HEIGHT)
    again = other.points(points)
    again[:, 0] = view.size[1] - again[:, 0]
    np.testing.assert_allclose(again, view.points(points), atol=1e-9)
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    assert other.pixels(image).flip(2).equal(view.pixels(image))


@pytest.mark.parametrize("view", VIEWS)
def test_the_box_of_a_mask_lies_in_the_box(view):
    corners = np.array(STAR).reshape(-1, 2)
    moved = view.boxes(np.concatenate([corners.min(0), corners.max(0)])[None])[0]
    left, top, right, bottom = box_of_mask(view.mask([STAR], (HEIGHT, WIDTH)))
    height, width = view.size
    assert 0 <= moved[0] <= left + 1 and 0 <= moved[1] <= top + 1
    assert right - 1 <= moved[2] <= width and bottom - 1 <= moved[3] <= height


def test_boxes_are_moved_flipped_and_clipped():
    view = View(rectangle=(10, 10, 30, 20), size=(20, 60), flip=True)
    assert view.scale == (2.0, 3.0)
    objects = [(10.0, 10.0, 5.0, 5.0), (0.0, 0.0, 15.0, 40.0), (40.0, 0.0, 9.0, 9.0)]
    boxes = corner_boxes([annotation(box=box) for box in objects])
    assert view.boxes(boxes).tolist() == [[45, 0, 60, 10], [45, 0, 60, 20], [0, 0, 0, 0]]
    assert corner_boxes([]).shape == view.boxes(corner_boxes([])).shape == (0, 4)
    assert is_visible(np.array([1, 1, 2, 2])) and not is_visible(np.array([1, 1, 9, 1.9]))


def test_the_box_of_a_mask():
    mask = np.zeros((5, 7), dtype=np.uint8)
    assert box_of_mask(mask) == (0, 0, 0, 0)
    mask[3, 2] = mask[1, 5] = 1
    assert box_of_mask(mask) == (2, 1, 6, 4)


def test_what_has_a_shape():
    assert has_shape(annotation([STAR])) and has_shape(annotation({"size": [1, 1], "counts": [0, 1]}))
    assert not has_shape(annotation([[1.0, 2.0, 3.0, 4.0]])) and not has_shape(annotation())


def test_a_polygon_far_outside_is_no_work():
    far = [-1e12, -1e12, 1e12, -1e12, 1e12, 1e12, -1e12, 1e12]
    assert VIEWS[1].mask([far], (HEIGHT, WIDTH)).all()


@pytest.mark.parametrize("width", [1, 37, 640, 8000])
@pytest.mark.parametrize("height", [1, 480, 1333])
@pytest.mark.parametrize("shortest", [None, 800])
def test_the_size_that_fits(width, height, shortest):
    rows, columns = fitted_size(width, height, 1333, shortest)
    scale = min(1333 / max(width, height), (shortest or 1e9) / min(width, height))
    assert rows == max(round(height * scale), 1) and columns == max(round(width * scale), 1)
    assert max(rows, columns) <= 1333


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (500, 375), (333, 500), (640, 200), (427, 640)])
def test_the_shorter_side_as_torchvision_has_it(size):
    from torchvision.transforms.v2 import RandomShortestSize

    theirs = RandomShortestSize(800, 1333)(Image.new("RGB", size))
    rows, columns = fitted_size(*size, 1333, 800)
    # They cut what we round.
    assert 0 <= rows - theirs.height <= 1 and 0 <= columns - theirs.width <= 1
