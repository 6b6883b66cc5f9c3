"""The settings of images with objects in them, and of how training changes them; without torch."""

from dataclasses import dataclass

from lambdanets.errors import ArgumentError, require


@dataclass(frozen=True, kw_only=True)
class CocoConfig:
    """Images with objects, described by files of COCO's JSON.

    Attributes:
        root: The folder that holds both parts.
        train: The part to train with: a folder of images below root, with its JSON file in it, beside it or
            in `annotations`; or the JSON file itself.
        test: The part to test with.
        image_size: Side in pixels of the square that an image is fitted into.
        shortest_side: Instead: the shorter side of an image, as long as the longer one stays below
            `image_size`; images are then of many shapes.
    """

    root: str = ""
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

    def check_ready(self) -> None:
        """Raise where nobody has said which files."""
        if not self.root:
            raise ArgumentError(
                f"CocoConfig: root must be given, got none. Use --data.root DIR, with the parts"
                f" {self.train} and {self.test}."
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
