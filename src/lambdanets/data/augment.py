"""Settings beside the data set: how training changes its images, and images that a teacher labelled."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambdanets.errors import require

if TYPE_CHECKING:
    from lambdanets.data.config import DataConfig


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training changes images that are read from files, and mixes images of any kind.

    Attributes:
        min_crop_area: Least fraction of the image's area that is cut out and resized.
        flip: Probability that an image is flipped left to right.
        randaugment_layers: Operations of RandAugment on each image; 0 for none.
        randaugment_magnitude: How strong they are, from 0 to 30.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of cutmix; 0 for none. With both, each batch takes one or the other.
    """

    min_crop_area: float = 0.08
    flip: float = 0.5
    randaugment_layers: int = 0
    randaugment_magnitude: float = 10.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        require(self, "min_crop_area", 0 < self.min_crop_area <= 1, "be positive and at most 1")
        require(self, "flip", 0 <= self.flip <= 1, "lie between 0 and 1")
        require(self, "randaugment_layers", self.randaugment_layers >= 0, "be at least 0")
        require(self, "randaugment_magnitude", 0 <= self.randaugment_magnitude <= 30, "lie between 0 and 30")
        require(self, "mixup", self.mixup >= 0, "be at least 0")
        require(self, "cutmix", self.cutmix >= 0, "be at least 0")

    def check_for(self, data: "DataConfig") -> None:
        """Raise where a setting has no effect on the images of a data set."""
        if data.augmented:
            return
        for name in ("min_crop_area", "flip", "randaugment_layers", "randaugment_magnitude"):
            default = getattr(AugmentConfig, name)
            require(
                self,
                name,
                getattr(self, name) == default,
                f"be left at {default!r} for {data.name}, whose images are not read from files",
            )


@dataclass(frozen=True, kw_only=True)
class PseudoConfig:
    """Training with labels that a teacher gave, beside the labelled images.

    Attributes:
        labels: The folder that `lambdanets pseudo label` wrote; none without.
        ratio: Pseudo-labelled images to each labelled one of a batch.
    """

    labels: str | None = None
    ratio: float = 1.0

    def __post_init__(self) -> None:
        require(self, "ratio", 0 < self.ratio < float("inf"), "be positive and finite")
        require(self, "ratio", self.labels is not None or self.ratio == 1, "be 1 without pseudo.labels")
