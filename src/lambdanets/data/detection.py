"""The settings of images with objects in them, and of how training changes them; without torch."""

import math
from dataclasses import dataclass
from typing import ClassVar

from lambdanets.data.parts import PartsConfig
from lambdanets.errors import require


@dataclass(frozen=True, kw_only=True)
class CocoConfig(PartsConfig):
    """Images with objects, described by files of COCO's JSON.

    Attributes:
        train: The part to train with: a folder of images below root, with its JSON file in it, beside it or
            in `annotations`; or the JSON file itself.
        test: The part to test with.
        image_size: Side in pixels of the square that an image is fitted into.
        shortest_side: Instead: the shorter side of an image, as long as the longer one stays below
            `image_size`; images are then of many shapes.
    """

    train: str = "train2017"
    test: str = "val2017"
    image_size: int = 1024
    shortest_side: int | None = None

    def __post_init__(self) -> None:
        require(self, "image_size", self.image_size >= 32, "be at least 32")
        side = self.shortest_side
        require(
            self, "shortest_side", side is None or 32 <= side <= self.image_size, "be from 32 to image_size"
        )


@dataclass(frozen=True, kw_only=True)
class JitterConfig:
    """How the training of a detector changes images and their objects.

    Attributes:
        min_scale: Least size of an image, over that which fits into the square.
        max_scale: Largest size; a larger image than the square is cropped at random.
        flip: Probability that an image is flipped left to right.
        copy_paste: Probability that objects of another image are pasted into an image.
    """

    min_scale: float = 0.1
    max_scale: float = 2.0
    flip: float = 0.5
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        require(self, "min_scale", 0 < self.min_scale <= self.max_scale, "be positive and at most max_scale")
        require(self, "max_scale", self.max_scale < float("inf"), "be finite")
        require(self, "flip", 0 <= self.flip <= 1, "lie between 0 and 1")
        require(self, "copy_paste", 0 <= self.copy_paste <= 1, "lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """How many scenes, and what is in them.

    Attributes:
        train: Scenes to train with.
        val: Scenes to test with, of other digits.
        size: Side of a scene in pixels.
        max_objects: Most objects of a scene; there are from one to so many, evenly.
        min_side: Least longer side of a digit in pixels, before it is rotated by
            up to 15 degrees.
        max_side: Largest one; the logarithm of the side is drawn evenly.
        empty: Fraction of scenes without an object.
        seed: Decides every pixel, with the place of the scene.
    """

    MAX_ROTATION: ClassVar[float] = 15.0

    train: int = 3000
    val: int = 250
    size: int = 160
    max_objects: int = 6
    min_side: int = 8
    max_side: int = 96
    empty: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "val", "max_objects"):
            require(self, name, getattr(self, name) >= 1, "be at least 1")
        require(self, "size", 32 <= self.size <= 8192, "be from 32 to 8192")
        require(self, "min_side", 4 <= self.min_side <= self.max_side, "be from 4 to max_side")
        angle = math.radians(self.MAX_ROTATION)
        most = int(self.size / (math.cos(angle) + math.sin(angle))) - 2
        require(self, "max_side", self.max_side <= most, f"be at most {most} in scenes of {self.size} px")
        require(self, "empty", 0 <= self.empty < 1, "be at least 0 and below 1")
        require(self, "seed", self.seed >= 0, "be at least 0")
