"""Settings beside the data set: how training changes its images, and images that a teacher labelled."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from lambdanets.errors import require
from lambdanets.ranges import Probability, Range, Share, check_settings

if TYPE_CHECKING:
    from lambdanets.data.config import DataConfig


Ratio = Annotated[float, Range(0, 1000, "low")]


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

    min_crop_area: Share = 0.08
    flip: Probability = 0.5
    randaugment_layers: Annotated[int, Range(0, 100)] = 0
    randaugment_magnitude: Annotated[float, Range(0, 30)] = 10.0
    mixup: Annotated[float, Range(0, 1000)] = 0.0
    cutmix: Annotated[float, Range(0, 1000)] = 0.0

    def __post_init__(self) -> None:
        check_settings(self)

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
    ratio: Ratio = 1.0

    def __post_init__(self) -> None:
        check_settings(self)
        require(self, "ratio", self.labels is not None or self.ratio == 1, "be 1 without pseudo.labels")
