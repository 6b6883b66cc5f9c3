"""Scenes: handwritten digits of many sizes on textured ground, with exact masks, as files of COCO's form."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from lambdanets.data.detection import SceneConfig
from lambdanets.data.seeds import generator, purpose
from lambdanets.detection.backdrops import draw_background, draw_mark
from lambdanets.detection.handwriting import Handwriting, Plane, load_handwriting, render_ink
from lambdanets.detection.rle import mask_library
from lambdanets.files import flush, new_folder, write_flushed
from lambdanets.terminal import counting

# A pixel belongs to what covers this fraction of it.
_COVERED: Final = 0.5

# What is pasted later leaves this fraction of each earlier object visible; where it would not, it is pasted
# elsewhere, and left out after so many places.
_MIN_VISIBLE: Final = 0.7
_PLACES: Final = 10

# Least difference of brightness between a stroke and what is below it, of 255 levels.
_MIN_CONTRAST: Final = 35.0
_COLORS: Final = 12
_BRIGHTNESS: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)

_PARTS: Final = ("train", "val")


@dataclass(eq=False, kw_only=True)
class _SceneObject:
    """A digit of a scene.

    Attributes:
        label: Its class.
        digit: Its index among the digits.
        side: Longer side in pixels as it was drawn.
        num_pixels: Pixels of its mask before others covered it.
        mask: The pixels that are visible.
    """

    label: int
    digit: int
    side: float
    num_pixels: int
    mask: Bool[np.ndarray, "size size"]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The smallest box around the visible pixels: left, top, width and height."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


@dataclass(eq=False, kw_only=True)
class _Scene:
    """An image and its objects, in the order in which they were pasted."""

    pixels: UInt8[np.ndarray, "size size 3"]
    objects: list[_SceneObject]


def _draw_scene(config: SceneConfig, part: int, index: int, digits: Handwriting) -> _Scene:
    """Draw a scene: a pure function of the config, the part (0 or 1), the index and the digits.

    Digits and marks that are no digits are pasted in a random order; what comes later hides what is below.
    """
    rng = generator(purpose("detection scenes"), config.seed, part, index)
    is_empty = rng.random() < config.empty
    num_objects = 0 if is_empty else int(rng.integers(1, config.max_objects + 1))
    num_marks = int(rng.integers(0, config.max_objects + 1))
    painting = _Painting(rng, draw_background(rng, config.size))
    for is_object in rng.permutation(np.arange(num_objects + num_marks) < num_objects):
        side = math.exp(rng.uniform(math.log(config.min_side), math.log(config.max_side)))
        if not is_object:
            painting.paste(draw_mark(rng, side, config.size))
            continue
        digit = int(rng.integers(len(digits)))
        angle = rng.uniform(-SceneConfig.MAX_ROTATION, SceneConfig.MAX_ROTATION)
        mask = painting.paste(render_ink(digits.read(digit), side, angle))
        if mask is not None:
            label = int(digits.targets[digit])
            painting.objects.append(
                _SceneObject(label=label, digit=digit, side=side, num_pixels=int(mask.sum()), mask=mask)
            )
    return _Scene(pixels=painting.finish(), objects=painting.objects)


class _Painting:
    """A scene while it is painted."""

    def __init__(self, rng: np.random.Generator, canvas: Float[np.ndarray, "size size 3"]) -> None:
        self.objects: list[_SceneObject] = []
        self._rng, self._canvas = rng, canvas

    def paste(self, coverage: Plane) -> Bool[np.ndarray, "size size"] | None:
        """Paste a shape in a color of its own where it leaves enough of each object visible.

        Returns:
            The pixels that it covers; None where no place was found.
        """
        high, wide = coverage.shape
        size = len(self._canvas)
        shape = coverage >= _COVERED
        if high > size or wide > size or not shape.any():
            return None
        for _ in range(_PLACES):
            top, left = (int(self._rng.integers(size - side + 1)) for side in (high, wide))
            area = np.s_[top : top + high, left : left + wide]
            hidden = [int((one.mask[area] & shape).sum()) for one in self.objects]
            if all(
                one.mask.sum() - count >= _MIN_VISIBLE * one.num_pixels
                for one, count in zip(self.objects, hidden, strict=True)
            ):
                self._blend(coverage, shape, area)
                mask = np.zeros((size, size), dtype=bool)
                mask[area] = shape
                return mask
        return None

    def _blend(self, coverage: Plane, shape: Bool[np.ndarray, "_ _"], area: tuple[slice, slice]) -> None:
        below = self._canvas[area]
        color = self._color(below[shape].mean(axis=0))
        below += coverage[..., None] * (color - below)
        for one in self.objects:
            one.mask[area] &= ~shape

    def _color(self, below: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
        """Draw a color that differs enough from what is below it."""
        colors = self._rng.uniform(0, 255, (_COLORS, 3)).astype(np.float32)
        contrasts = np.abs((colors - below) @ _BRIGHTNESS)
        least = self._rng.uniform(_MIN_CONTRAST, 2 * _MIN_CONTRAST)
        enough = np.flatnonzero(contrasts >= least)
        return colors[enough[0] if len(enough) else contrasts.argmax()]

    def finish(self) -> UInt8[np.ndarray, "size size 3"]:
        """Add the grain of a camera to half of the scenes."""
        grain = max(0.0, self._rng.uniform(-6, 6))
        if grain:
            self._canvas += grain * self._rng.standard_normal(self._canvas.shape, dtype=np.float32)
        return self._canvas.clip(0, 255).round().astype(np.uint8)


def write_scenes(folder: Path, config: SceneConfig, digits: Path | None = None) -> dict[str, int]:
    """Write scenes as PNG files with COCO's JSON; the folder is there when it is whole, or not at all.

    `train/000001.png` and the following are described by `annotations/instances_train.json`, those of `val`
    likewise. Category ids count from 1; masks are compressed RLE, exact to the pixel.

    Args:
        folder: A new or empty folder.
        config: How many, and what is in them.
        digits: A folder of own digits, as in `load_handwriting`.

    Returns:
        Objects of each part.

    Raises:
        ArgumentError: The folder holds something.
        DataError: The own digits cannot be read.
        DependencyError: pycocotools is missing.
        StorageError: The disk is full or the folder cannot be written.
    """
    mask_library()
    counts = {}
    with new_folder(folder, "data scenes") as beside:
        (beside / "annotations").mkdir()
        for number, (part, hands) in enumerate(zip(_PARTS, load_handwriting(digits), strict=True)):
            content = _write_part(beside / part, config, number, hands)
            counts[part] = len(content["annotations"])
            text = json.dumps(content, separators=(",", ":"))
            write_flushed(beside / "annotations" / f"instances_{part}.json", f"{text}\n".encode())
        flush(beside / "annotations")
    return counts


def _write_part(folder: Path, config: SceneConfig, part: int, digits: Handwriting) -> dict[str, Any]:
    folder.mkdir()
    total = (config.train, config.val)[part]
    settings = ", ".join(f"{name} {value}" for name, value in asdict(config).items())
    content: dict[str, Any] = {
        "info": {"description": f"Scenes of handwritten digits by lambdanets: {settings}."},
        "licenses": [],
        "images": [],
        "annotations": [],
        "categories": [
            {"id": label + 1, "name": name, "supercategory": "digit"}
            for label, name in enumerate(digits.labels)
        ],
    }
    annotations = content["annotations"]
    with counting(f"scenes of {_PARTS[part]}", total) as show:
        for index in range(total):
            scene = _draw_scene(config, part, index, digits)
            name = f"{index + 1:06d}.png"
            write_flushed(folder / name, _png(scene.pixels))
            side = config.size
            content["images"].append({"id": index + 1, "file_name": name, "width": side, "height": side})
            for one in _annotations(scene):
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **one})
            show(index + 1)
    flush(folder)
    return content


def _annotations(scene: _Scene) -> Iterator[dict[str, Any]]:
    mask = mask_library()
    for one in scene.objects:
        encoded = mask.encode(np.asfortranarray(one.mask.view(np.uint8)))
        yield {
            "category_id": one.label + 1,
            "bbox": list(one.box),
            "area": int(one.mask.sum()),
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
            "iscrowd": 0,
        }


def _png(pixels: UInt8[np.ndarray, "size size 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
