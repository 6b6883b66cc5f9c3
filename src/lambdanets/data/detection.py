"""The settings of images with objects in them, and of how training changes them; without torch."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from lambdanets.data.parts import PartsConfig
from lambdanets.errors import require
from lambdanets.ranges import Count, Probability, Range, Rate, Seed, check_settings

# Sides of images: the last map of a detector has a position for each 32 pixels.
_Side = Annotated[int, Range(32, 8192)]
_ObjectSide = Annotated[int, Range(4, 8192)]


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
    image_size: _Side = 1024
    shortest_side: _Side | None = None

    def __post_init__(self) -> None:
        check_settings(self)
        side = self.shortest_side
        require(self, "shortest_side", side is None or side <= self.image_size, "be from 32 to image_size")


@dataclass(frozen=True, kw_only=True)
class JitterConfig:
    """How the training of a detector changes images and their objects.

    Attributes:
        min_scale: Least size of an image, over that which fits into the square.
        max_scale: Largest size; a larger image than the square is cropped at random.
        flip: Probability that an image is flipped left to right.
        copy_paste: Probability that objects of another image are pasted into an image.
    """

    # An image of so many times its size is still one that can be held in memory.
    min_scale: Annotated[float, Range(0.01, 10)] = 0.1
    max_scale: Annotated[float, Range(0.01, 10)] = 2.0
    flip: Probability = 0.5
    copy_paste: Probability = 0.0

    def __post_init__(self) -> None:
        check_settings(self)
        require(self, "min_scale", self.min_scale <= self.max_scale, "be at most max_scale")


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

    train: Count = 3000
    val: Count = 250
    size: _Side = 160
    max_objects: Annotated[int, Range(1, 1000)] = 6
    min_side: _ObjectSide = 8
    max_side: _ObjectSide = 96
    empty: Rate = 0.1
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self)
        require(self, "min_side", self.min_side <= self.max_side, "be from 4 to max_side")
        angle = math.radians(self.MAX_ROTATION)
        most = int(self.size / (math.cos(angle) + math.sin(angle))) - 2
        require(self, "max_side", self.max_side <= most, f"be at most {most} in scenes of {self.size} px")
