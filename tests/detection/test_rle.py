"""Masks as run lengths against torchvision's pasting and pycocotools' encoder."""

import builtins

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from lambdanets.detection.rle import _encode_part, paste_mask, segmentation_rle
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


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("kind", ["random", "full", "empty"])
def test_a_pasted_mask_is_that_of_torchvision(box, kind):
    draw = torch.Generator().manual_seed(1)
    mask = {"random": torch.rand(28, 28, generator=draw), "full": torch.ones(28, 28)}.get(
        kind, torch.zeros(28, 28)
    )
    box = torch.tensor(box)
    pasted = paste_masks_in_image(mask[None, None], box[None], (71, 99))[0, 0]
    assert paste_mask(mask, box, (71, 99)) == encoded((pasted >= 0.5).numpy())


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
        match=r"^detection: pycocotools must be installed\. pip install 'lambdanets\[detect\]'\.$",
    ):
        segmentation_rle([[2.0, 1.0, 2.0, 5.0, 6.0, 5.0]], (8, 10))
