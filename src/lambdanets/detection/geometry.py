"""A view of an image, its objects moved with it: polygons stay polygons until the final size."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from lambdanets.data.decode import crop_and_resize
from lambdanets.detection.coco import Annotation, Segmentation
from lambdanets.detection.rle import mask_library, segmentation_rle

Boxes = Float[ndarray, "n 4"]

# Corners of polygons further outside are drawn here: their outlines are walked along in small steps.
_FAR: Final = 2**15
# Numbers of the smallest polygon.
_TRIANGLE: Final = 6


@dataclass(frozen=True, kw_only=True)
class View:
    """A rectangle of an image at another size, perhaps flipped.

    The rectangle has whole pixels and the result too, so that scales follow from both and are exact.

    Attributes:
        rectangle: Left, top, right and bottom in pixels of the image.
        size: Height and width of the result.
        flip: Whether left and right are exchanged.
    """

    rectangle: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: bool = False

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the result per pixel of the image: along the height, along the width."""
        left, top, right, bottom = self.rectangle
        return self.size[0] / (bottom - top), self.size[1] / (right - left)

    def pixels(self, image: Image.Image) -> UInt8[Tensor, "3 height width"]:
        """What the view shows of an image: bicubic, averaged where it shrinks."""
        pixels = crop_and_resize(image, self.rectangle, self.size)
        return pixels.flip(2) if self.flip else pixels

    def points(self, points: Float[ndarray, "p 2"]) -> Float[ndarray, "p 2"]:
        """Move points x, y of the image; those outside of the view stay outside of the result."""
        scale = self.scale
        moved = (points - self.rectangle[:2]) * scale[::-1]
        if self.flip:
            moved[:, 0] = self.size[1] - moved[:, 0]
        return moved

    def boxes(self, boxes: Boxes) -> Boxes:
        """Move boxes x1, y1, x2, y2 and clip them to the result: what is outside becomes empty."""
        height, width = self.size
        moved = self.points(boxes.reshape(-1, 2)).reshape(-1, 4)
        if self.flip:
            moved = moved[:, [2, 1, 0, 3]]
        return moved.clip(0, [width, height, width, height])

    def bitmap(self, bitmap: UInt8[ndarray, "rows columns"]) -> UInt8[ndarray, "height width"]:
        """Move a bitmap of the image: each pixel is the one of the bitmap that its middle lies in."""
        left, top, right, bottom = self.rectangle
        height, width = self.size
        rows = top + (np.arange(height) * 2 + 1) * (bottom - top) // (2 * height)
        columns = left + (np.arange(width) * 2 + 1) * (right - left) // (2 * width)
        if self.flip:
            columns = columns[::-1]
        return bitmap[rows[:, None], columns]

    def mask(self, segmentation: Segmentation, image_size: tuple[int, int]) -> UInt8[ndarray, "height width"]:
        """Move a segmentation and rasterise it, as pycocotools does at the size of the image.

        Args:
            segmentation: Polygons or run lengths, as in `Annotation`.
            image_size: Height and width of the image, for run lengths.

        Raises:
            DependencyError: pycocotools is not installed.
        """
        if isinstance(segmentation, dict):
            return self.bitmap(_bitmap_of(segmentation, image_size))
        moved = [
            self.points(np.asarray(polygon, dtype=np.float64).reshape(-1, 2))
            .clip(-_FAR, _FAR)
            .ravel()
            .tolist()
            for polygon in segmentation or []
        ]
        return _bitmap_of(moved, self.size)


def whole_view(width: int, height: int, size: tuple[int, int]) -> View:
    """The view of all of an image at another size (height and width)."""
    return View(rectangle=(0, 0, width, height), size=size)


def fitted_size(width: int, height: int, longest: int, shortest: int | None = None) -> tuple[int, int]:
    """The size at which an image is tested: height and width, at least one pixel each.

    The longer side becomes `longest` pixels; with `shortest` the shorter side that many, as far as the longer
    one stays within `longest`.
    """
    scale = fitting_scale(width, height, longest, shortest)
    return scaled_length(height, scale, longest), scaled_length(width, scale, longest)


def fitting_scale(width: int, height: int, longest: int, shortest: int | None) -> float:
    """The scale of `fitted_size`, before sides are rounded."""
    scale = longest / max(width, height)
    return scale if shortest is None else min(scale, shortest / min(width, height))


def scaled_length(length: int, scale: float, most: int) -> int:
    """A length at another scale, from 1 to `most` pixels."""
    return min(max(round(length * scale), 1), most)


def has_shape(annotation: Annotation) -> bool:
    """Whether an object has a mask: run lengths, or a polygon of three corners."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, list):
        return any(len(polygon) >= _TRIANGLE for polygon in segmentation)
    return segmentation is not None


def corner_boxes(annotations: list[Annotation]) -> Boxes:
    """The boxes of objects as x1, y1, x2, y2."""
    boxes = np.array([one.box for one in annotations], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def box_of_mask(
    mask: UInt8[ndarray, "height width"] | Bool[ndarray, "height width"],
) -> tuple[int, int, int, int]:
    """The smallest box x1, y1, x2, y2 around the pixels of a mask; zeros where there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _bitmap_of(segmentation: Segmentation, size: tuple[int, int]) -> UInt8[ndarray, "height width"]:
    """The bitmap of a segmentation at the size it is given for; zeros where there is none.

    Raises:
        DependencyError: pycocotools is not installed.
    """
    encoded = segmentation_rle(segmentation, size)
    if encoded is None:
        return np.zeros(size, dtype=np.uint8)
    bitmap: UInt8[ndarray, "height width"] = mask_library().decode(encoded)
    return bitmap


def is_visible(box: ndarray) -> bool:
    """Whether a clipped box has at least a pixel in both directions."""
    width, height = box[2:] - box[:2]
    return bool(min(width, height) >= 1 and math.isfinite(width * height))
