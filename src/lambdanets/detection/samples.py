"""Images with their objects as training and tests see them: jitter, crop, flip, copy-paste, padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.data.detection import CocoConfig, JitterConfig
from lambdanets.detection.coco import Annotation, ImageRecord
from lambdanets.detection.geometry import (
    View,
    box_of_mask,
    corner_boxes,
    fitted_size,
    fitting_scale,
    has_shape,
    is_visible,
    scaled_length,
    whole_view,
)

# An object stays as long as this fraction of its pixels is seen under what was pasted over it.
_LEAST_SEEN: Final = 0.1
# Probability that an object of the other image is pasted.
_PASTED: Final = 0.5
# Numbers that `jittered_view` takes.
NUM_DRAWS: Final = 4


class Sample(NamedTuple):
    """An image at its final size, without padding, and its objects.

    Attributes:
        pixels: The image.
        boxes: x1, y1, x2, y2 in its pixels.
        labels: From 1.
        masks: One for each object, at the size of the image.
        scale: Pixels of the image per pixel of the original, along height and width.
    """

    pixels: UInt8[Tensor, "3 height width"]
    boxes: Float[ndarray, "n 4"]
    labels: Int[ndarray, " n"]
    masks: UInt8[ndarray, "n height width"]
    scale: tuple[float, float]

    def keep(self, chosen: Sequence[int]) -> "Sample":
        """Keep the objects at some positions."""
        places = np.asarray(chosen, dtype=np.int64)
        return self._replace(boxes=self.boxes[places], labels=self.labels[places], masks=self.masks[places])


def fitted_view(width: int, height: int, config: CocoConfig) -> View:
    """The view of a whole image as tests have it."""
    return whole_view(width, height, fitted_size(width, height, config.image_size, config.shortest_side))


def jittered_view(
    width: int, height: int, config: CocoConfig, jitter: JitterConfig, draws: Sequence[float]
) -> View:
    """Scale an image at random, and cut a rectangle at random where it is larger than the square.

    The size of a test is multiplied by a factor between `min_scale` and `max_scale`. What is longer then than
    `image_size` is cut to it, at whole pixels of the image.

    Args:
        width: Columns of the image.
        height: Its rows.
        config: Gives the size of a test.
        jitter: Gives the range of factors, and the probability of a flip.
        draws: Numbers from 0 to 1, below 1: for factor, row, column, flip.
    """
    side = config.image_size
    factor = jitter.min_scale + (jitter.max_scale - jitter.min_scale) * draws[0]
    scale = fitting_scale(width, height, side, config.shortest_side) * factor
    rows = scaled_length(side, 1 / scale, height)
    columns = scaled_length(side, 1 / scale, width)
    top, left = int(draws[1] * (height - rows + 1)), int(draws[2] * (width - columns + 1))
    return View(
        rectangle=(left, top, left + columns, top + rows),
        size=(scaled_length(rows, scale, side), scaled_length(columns, scale, side)),
        flip=draws[3] < jitter.flip,
    )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How objects of a data set become targets.

    Attributes:
        labels: The label of each category id.
        masks: Whether an object needs a mask; without, one that has none is its box.
        rasterise: Whether masks are made at all.
    """

    labels: dict[int, int]
    masks: bool
    rasterise: bool

    def sample(self, image: Image.Image, record: ImageRecord, view: View) -> Sample:
        """What a view shows of an image and its objects.

        Crowds are left out, and what is less than a pixel wide or high; with masks also what has none, or one
        without a pixel. The box of an object that the view cuts is no larger than its mask there.
        """
        objects = [
            one for one in record.annotations if not one.is_crowd and (not self.masks or has_shape(one))
        ]
        corners = corner_boxes(objects)
        boxes = view.boxes(corners)
        kept: list[tuple[ndarray, int]] = []
        masks = []
        for annotation, box, whole in zip(objects, boxes, corners, strict=True):
            if not is_visible(box):
                continue
            if self.rasterise:
                mask = self._mask(annotation, record, view)
                box = _tightened(box, mask) if _is_cut(whole, view) else box
                if not is_visible(box) or not mask.any():
                    continue
                masks.append(mask)
            kept.append((box, self.labels[annotation.category_id]))
        return Sample(
            pixels=view.pixels(image),
            boxes=np.array([box for box, _ in kept], dtype=np.float64).reshape(-1, 4),
            labels=np.array([label for _, label in kept], dtype=np.int64),
            masks=np.stack(masks) if masks else np.zeros((0, *view.size), dtype=np.uint8),
            scale=view.scale,
        )

    def _mask(
        self, annotation: Annotation, record: ImageRecord, view: View
    ) -> UInt8[ndarray, "height width"]:
        segmentation = annotation.segmentation
        if not has_shape(annotation):
            left, top, width, height = annotation.box
            right, bottom = left + width, top + height
            segmentation = [[left, top, right, top, right, bottom, left, bottom]]
        return view.mask(segmentation, (record.height, record.width))


def _is_cut(box: ndarray, view: View) -> bool:
    left, top, right, bottom = view.rectangle
    return bool(box[0] < left or box[1] < top or box[2] > right or box[3] > bottom)


def _tightened(box: ndarray, mask: ndarray) -> ndarray:
    """The part of a box that its mask needs."""
    seen = np.array(box_of_mask(mask), dtype=np.float64)
    return np.concatenate([np.maximum(box[:2], seen[:2]), np.minimum(box[2:], seen[2:])])


def paste_objects(onto: Sample, source: Sample, draws: Float[ndarray, " n"]) -> Sample:
    """Paste objects of one image onto another, at the places they have there.

    What they hide is taken off the masks below, and boxes follow the masks; an object of which less than a
    tenth is still seen is dropped. Both need masks.

    Args:
        onto: What is pasted upon.
        source: Where objects come from.
        draws: A number from 0 to 1 for each object of `source`: below one half it is pasted.
    """
    pasted = source.keep(np.flatnonzero(draws < _PASTED).tolist())
    if not len(pasted.labels):
        return onto
    size = [max(lengths) for lengths in zip(onto.pixels.shape[1:], source.pixels.shape[1:], strict=True)]
    onto, pasted = _enlarged(onto, size), _enlarged(pasted, size)
    above = pasted.masks.any(0)
    masks = onto.masks * ~above
    before, after = onto.masks.sum((1, 2)), masks.sum((1, 2))
    boxes = onto.boxes.copy()
    seen = []
    for place, mask in enumerate(masks):
        if after[place] < before[place]:
            boxes[place] = _tightened(boxes[place], mask)
        if after[place] >= max(1, _LEAST_SEEN * before[place]) and is_visible(boxes[place]):
            seen.append(place)
    left = onto._replace(boxes=boxes, masks=masks).keep(seen)
    return Sample(
        pixels=torch.where(torch.from_numpy(above), pasted.pixels, onto.pixels),
        boxes=np.concatenate([left.boxes, pasted.boxes]),
        labels=np.concatenate([left.labels, pasted.labels]),
        masks=np.concatenate([left.masks, pasted.masks]),
        scale=onto.scale,
    )


def _enlarged(sample: Sample, size: Sequence[int]) -> Sample:
    """Pad an image and its masks to the right and below."""
    below, right = (length - own for length, own in zip(size, sample.pixels.shape[1:], strict=True))
    return sample._replace(
        pixels=pad(sample.pixels, (0, right, 0, below)),
        masks=np.pad(sample.masks, ((0, 0), (0, below), (0, right))),
    )


def collate(
    samples: Sequence[Sample], indices: Sequence[int], canvas: int | None, *, masks: bool
) -> tuple[UInt8[Tensor, "b 3 height width"], tuple[dict[str, Tensor], ...]]:
    """A batch of images padded with zeros, and the target of each.

    Args:
        samples: The images.
        indices: The index of each in the data set.
        canvas: Side of the square; None: the largest height and width of the batch.
        masks: Whether targets have masks; without, they are of 0×0 pixels.
    """
    height, width = (
        canvas if canvas is not None else max(sample.pixels.shape[axis] for sample in samples)
        for axis in (1, 2)
    )
    images = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
    targets = []
    for image, sample, index in zip(images, samples, indices, strict=True):
        rows, columns = sample.pixels.shape[1:]
        image[:, :rows, :columns] = sample.pixels
        drawn = torch.zeros(len(sample.labels), *((height, width) if masks else (0, 0)), dtype=torch.uint8)
        if masks:
            drawn[:, :rows, :columns] = torch.from_numpy(sample.masks)
        targets.append(
            {
                "boxes": torch.from_numpy(sample.boxes).float(),
                "labels": torch.from_numpy(sample.labels),
                "masks": drawn,
                "size": torch.tensor([rows, columns]),
                "image_id": torch.tensor(index),
                "scale": torch.tensor(sample.scale, dtype=torch.float64),
            }
        )
    return images, tuple(targets)
