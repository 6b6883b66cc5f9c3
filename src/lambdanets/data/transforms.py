"""Augmentation of images: random crops, flips, RandAugment, mixup and cutmix."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lambdanets.data.augment import AugmentConfig
from lambdanets.data.decode import crop_and_resize
from lambdanets.data.preprocessing import Box
from lambdanets.data.seeds import Purpose, generator
from lambdanets.data.task import Images, Targets
from lambdanets.dependencies import missing_library

if TYPE_CHECKING:
    from timm.data.auto_augment import RandAugment

# Of a crop: its width by its height.
_ASPECTS: Final = (3 / 4, 4 / 3)
_TRIES: Final = 10


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """Augment an image for training: crop a part of it, resize, perhaps mirror, then RandAugment.

    RandAugment is TensorFlow's, which the paper's recipes use: of its operations as many as there are layers
    are drawn with repetition, and each is applied. In timm's notation it is
    `rand-m{magnitude}-n{layers}-p1-mmax30`: p1, because timm leaves out half of them by default; mmax30,
    because it cuts magnitudes off at 10; without inc1, because TensorFlow's posterize, solarize and
    enhancements are not the increasing ones. What moves in is grey (128), and pixels are the nearest.

    Paper: §E.2.
    Departs: timm has no cutout among the operations, and adds at most 128 where it solarises.
    """

    size: int
    augment: AugmentConfig

    def __call__(self, image: Image.Image, seed: tuple[int, ...]) -> UInt8[Tensor, "3 size size"]:
        """Change an image as its seed decides, and nothing else."""
        draws = generator(Purpose.CROP, *seed).random(3 + 2 * _TRIES).tolist()
        box = _crop_box(image.width, image.height, self.augment.min_crop_area, draws[1:])
        pixels = crop_and_resize(image, box, (self.size, self.size))
        if draws[0] < self.augment.flip:
            pixels = pixels.flip(2)
        if not self.augment.randaugment_layers:
            return pixels
        changed = Image.merge("RGB", [Image.fromarray(plane) for plane in pixels.numpy()])
        with seeded(Purpose.OPERATIONS, *seed):
            changed = self._randaugment(changed)
        return torch.from_numpy(np.array(changed)).permute(2, 0, 1)

    @cached_property
    def _randaugment(self) -> "RandAugment":
        try:
            from timm.data.auto_augment import RandAugment, rand_augment_ops
        except ImportError as error:
            raise missing_library("TrainTransform", "timm") from error
        settings = {
            # TensorFlow's operations move an image by up to 100 of the 224 pixels of a side.
            "translate_pct": 100 / 224,
            "magnitude_max": 30,
            "interpolation": Image.Resampling.NEAREST,
        }
        operations = rand_augment_ops(self.augment.randaugment_magnitude, prob=1.0, hparams=settings)
        return RandAugment(operations, self.augment.randaugment_layers)


def _crop_box(width: int, height: int, min_area: float, draws: list[float]) -> Box:
    """Draw a part of an image: its fraction of the area evenly, and its aspect evenly in the logarithm.

    Two draws are for the place, then two for each try. After ten parts that do not fit, it is the middle.
    """
    across, down, *tries = draws
    low, high = math.log(_ASPECTS[0]), math.log(_ASPECTS[1])
    for first, second in zip(tries[::2], tries[1::2], strict=True):
        area = width * height * (min_area + (1 - min_area) * first)
        aspect = math.exp(low + (high - low) * second)
        part_width, part_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            left, above = int(across * (width - part_width + 1)), int(down * (height - part_height + 1))
            return left, above, left + part_width, above + part_height
    part_width = min(width, max(1, round(height * _ASPECTS[1])))
    part_height = min(height, max(1, round(width / _ASPECTS[0])))
    left, above = (width - part_width) // 2, (height - part_height) // 2
    return left, above, left + part_width, above + part_height


def mix(
    images: Images,
    targets: Targets,
    num_classes: int,
    *,
    mixup: float,
    cutmix: float,
    seed: tuple[int, ...],
) -> tuple[Images, Targets]:
    """Mix each image of a batch with its neighbour, and their classes in proportion.

    Args:
        images: The images, as the network takes them.
        targets: Their classes.
        num_classes: How many classes there are.
        mixup: Alpha of mixup, which blends the two; 0 for none.
        cutmix: Alpha of cutmix, which pastes a part of one; 0 for none. With both, each batch takes one or
            the other, as the seed decides.
        seed: Numbers such as seed and step.

    Returns:
        The images, and a probability of every class; with neither alpha both as they came.
    """
    if not mixup and not cutmix:
        return images, targets
    from torchvision.transforms import v2

    with seeded(Purpose.MIX, *seed):
        takes_mixup = mixup > 0 and (not cutmix or random.random() < 0.5)
        kind, alpha = (v2.MixUp, mixup) if takes_mixup else (v2.CutMix, cutmix)
        mixed: tuple[Images, Targets] = kind(alpha=alpha, num_classes=num_classes)(images, targets)
    return mixed


@contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Let what other libraries draw follow from the seed alone, and leave no trace of it.

    The generators of numpy, of Python, and torch's of the processor are put back as they were.
    """
    before = np.random.get_state(), random.getstate(), torch.get_rng_state()
    first, second, third = np.random.SeedSequence(seed).generate_state(3).tolist()
    np.random.seed(first)
    random.seed(second)
    torch.default_generator.manual_seed(third)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])
        torch.set_rng_state(before[2])
