"""Masks as run lengths against torchvision's pasting and pycocotools' encoder."""

import builtins

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn.functional import grid_sample
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import roi_align

from lambdanets.detection.rle import _encode_part, sample_mask, segmentation_rle
from lambdanets.errors import DependencyError

BOXES = [
    [10.2, 5.7, 60.9, 40.1],
    [0.0, 0.0, 99.0, 71.0],
    [0.0, 0.0, 1.0, 1.0],
    [98.5, 70.5, 99.0, 71.0],
    [30.0, 0.0, 31.0, 71.0],
    [0.0, 35.2, 99.0, 35.9],
    [50.0, 50.0, 50.0, 50.0],
]


def encoded(dense):
    rle = coco_mask.encode(np.asfortranarray(dense.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def disks(side, count=50):
    """Bitmaps of ellipses about as large as `side`, and their boxes."""
    draw = np.random.default_rng(side)
    down, across = np.mgrid[:160, :160] + 0.5
    for _ in range(count):
        (x, y), (a, b) = draw.uniform(50, 110, 2), side / 2 * draw.uniform(0.7, 1, 2)
        bitmap = ((across - x) / a) ** 2 + ((down - y) / b) ** 2 < 1
        rows, columns = np.nonzero(bitmap)
        yield bitmap, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    ("side", "aligned", "least"),
    [(8, True, 0.99), (64, True, 0.99), (8, False, 0.88), (12, False, 0.93), (32, False, 0.98)],
)
def test_a_sampled_mask_undoes_what_made_the_target(side, aligned, least):
    overlaps = {"sampled": [], "pasted": []}
    for bitmap, box in disks(side):
        boxes = torch.tensor([[0, *box]], dtype=torch.float32)
        dense = torch.from_numpy(bitmap)[None, None].float()
        target = roi_align(dense, boxes, (28, 28), aligned=aligned)[0, 0]
        shift = (0.0, 0.0) if aligned else (0.5, 0.5)
        found = {
            "sampled": sample_mask(target, boxes[0, 1:], (160, 160), shift),
            "pasted": encoded(
                (paste_masks_in_image(target[None, None], boxes[:, 1:], (160, 160))[0, 0] >= 0.5).numpy()
            ),
        }
        for name, rle in found.items():
            overlaps[name].append(coco_mask.iou([rle], [encoded(bitmap)], [0])[0, 0])
    assert np.mean(overlaps["sampled"]) > least > np.mean(overlaps["pasted"])


def test_a_mask_is_sampled_as_grid_sample_does():
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(28, 28, generator=draw, dtype=torch.float64)
    for box in BOXES[:6]:
        x1, y1, x2, y2 = box
        across, down = torch.arange(99) + 0.5, torch.arange(71) + 0.5
        grid = torch.stack(
            torch.broadcast_tensors(
                ((across - x1) / (x2 - x1) * 2 - 1)[None], ((down - y1) / (y2 - y1) * 2 - 1)[:, None]
            ),
            dim=-1,
        )
        sampled = grid_sample(mask[None, None], grid[None].double(), align_corners=False)[0, 0]
        found = sample_mask(mask, torch.tensor(box, dtype=torch.float64), (71, 99), (0.0, 0.0))
        assert found == encoded((sampled >= 0.5).numpy())
    assert sample_mask(mask, torch.tensor([50.0, 50.0, 50.0, 50.0]), (71, 99))["size"] == [71, 99]


@pytest.mark.parametrize("place", [(0, 0), (3, 2), (0, 4), (5, 0)])
@pytest.mark.parametrize("size", [(4, 6), (8, 6), (4, 1), (8, 11)])
def test_a_part_is_encoded_as_the_whole_image_would_be(place, size):
    draw = np.random.default_rng(0)
    (x, y), (rows, columns) = place, (4, 6)
    for chance in (0.0, 0.3, 0.7, 1.0):
        part = draw.random((min(rows, size[0]), min(columns, size[1]))) < chance
        whole = np.zeros((y + part.shape[0] + size[0] % 3, x + part.shape[1]), dtype=bool)
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        assert _encode_part(part, place, whole.shape) == encoded(whole)


def test_segmentations_of_all_kinds_give_one_form():
    square = [2.0, 1.0, 2.0, 5.0, 6.0, 5.0, 6.0, 1.0]
    dense = np.zeros((8, 10), dtype=bool)
    dense[1:5, 2:6] = True
    counts = [17, 4, 4, 4, 4, 4, 4, 4, 35]
    assert segmentation_rle([square], (8, 10)) == encoded(dense)
    assert segmentation_rle({"size": [8, 10], "counts": counts}, (8, 10)) == encoded(dense)
    assert segmentation_rle(encoded(dense), (8, 10)) == encoded(dense)
    # Two parts are one object; two points are none.
    moved = [number + 3.0 * (place % 2 == 0) for place, number in enumerate(square)]
    dense[1:5, 5:9] = True
    assert segmentation_rle([square, moved, [1.0, 2.0, 3.0, 4.0]], (8, 10)) == encoded(dense)
    assert segmentation_rle([[1.0, 2.0, 3.0, 4.0]], (8, 10)) is None
    assert segmentation_rle([], (8, 10)) is None
    assert segmentation_rle(None, (8, 10)) is None


def test_without_the_library_the_extra_is_named(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name == "pycocotools":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        DependencyError,
        match=r"^detection: pycocotools must be installed, got none\. pip install pycocotools\.$",
    ):
        segmentation_rle([[2.0, 1.0, 2.0, 5.0, 6.0, 5.0]], (8, 10))
