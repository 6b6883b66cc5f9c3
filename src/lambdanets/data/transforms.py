"""From images to what training and tests show: crops, flips, RandAugment, mixing, normalisation."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lambdanets.data.decode import IMAGENET_MEAN, IMAGENET_STD
from lambdanets.data.seeds import Purpose, generator
from lambdanets.data.task import Images, Targets
from lambdanets.errors import DependencyError

if TYPE_CHECKING:
    from timm.data.auto_augment import RandAugment

# Of a crop: its width by its height.
ASPECTS: Final = (3 / 4, 4 / 3)
_TRIES: Final = 10

# Magnitudes of RandAugment that are let through; timm would cut them off at 10.
MAX_MAGNITUDE: Final = 30

# TensorFlow's operations move an image by up to 100 of the 224 pixels of a side.
_TRANSLATION: Final = 100 / 224

# Of more pixels no further copy is made: Pillow resizes them where they are, four times slower.
_COPIED_PIXELS: Final = 4_000_000

# Left, upper, right and lower edge in pixels, the latter two outside.
Box = tuple[int, int, int, int]
Pixels = UInt8[Tensor, "3 size size"]


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """What training shows of an image: a part of it, resized, perhaps mirrored, then RandAugment.

    RandAugment is TensorFlow's, which the paper's recipes use: of its operations as many as there are layers
    are drawn with repetition, and each is applied. In timm's words it is
    `rand-m{magnitude}-n{layers}-p1-mmax30`: p1, because timm leaves out half of them by default; mmax30,
    because it cuts magnitudes off at 10; without inc1, because TensorFlow's posterize, solarize and
    enhancements are not the increasing ones. What moves in is grey (128), and pixels are the nearest.

    Paper: §E.2.
    Departs: timm has no cutout among the operations, and adds at most 128 where it solarises.

    Attributes:
        size: Side of the result, in pixels.
        min_crop_area: Least share of the image's area that is cut out.
        flip: Share of the images that is mirrored left to right.
        randaugment_layers: Operations of RandAugment; 0 for none.
        randaugment_magnitude: How strong they are, from 0 to 30.
    """

    size: int
    min_crop_area: float = 0.08
    flip: float = 0.5
    randaugment_layers: int = 0
    randaugment_magnitude: float = 10.0

    def __call__(self, image: Image.Image, words: tuple[int, ...]) -> Pixels:
        """Change an image as its words of seed say, and nothing else."""
        draws = generator(Purpose.CROP, *words).random(3 + 2 * _TRIES).tolist()
        box = crop_box(image.width, image.height, self.min_crop_area, draws[1:])
        pixels = resized(image, box, self.size)
        if draws[0] < self.flip:
            pixels = pixels.flip(2)
        if not self.randaugment_layers:
            return pixels
        changed = Image.merge("RGB", [Image.fromarray(plane) for plane in pixels.numpy()])
        with seeded(Purpose.OPERATIONS, *words):
            changed = self._randaugment(changed)
        return torch.from_numpy(np.array(changed)).permute(2, 0, 1)

    @cached_property
    def _randaugment(self) -> "RandAugment":
        try:
            from timm.data.auto_augment import RandAugment, rand_augment_ops
        except ImportError as error:
            raise DependencyError(
                "TrainTransform: timm must be installed for RandAugment, got none."
                " pip install 'lambdanets[train]'."
            ) from error
        settings = {
            "translate_pct": _TRANSLATION,
            "magnitude_max": MAX_MAGNITUDE,
            "interpolation": Image.Resampling.NEAREST,
        }
        operations = rand_augment_ops(self.randaugment_magnitude, prob=1.0, hparams=settings)
        return RandAugment(operations, self.randaugment_layers)


@dataclass(frozen=True, kw_only=True)
class TestTransform:
    """What a test shows of an image: the middle square of it, resized.

    Paper: §E.2 (evaluation at training resolution).

    Attributes:
        size: Side of the result, in pixels.
        fraction: Side of the square as a share of the image's shorter side; size / (size + 32) where none
            is given.
    """

    # Pytest collects what is called so.
    __test__ = False

    size: int
    fraction: float | None = None

    def __call__(self, image: Image.Image) -> Pixels:
        """Cut the middle out of an image."""
        return resized(image, self.box(image.width, image.height), self.size)

    def box(self, width: int, height: int) -> Box:
        """Where the square of an image of this size is."""
        fraction = self.size / (self.size + 32) if self.fraction is None else self.fraction
        side = max(1, int(fraction * min(width, height)))
        left, above = (width - side + 1) // 2, (height - side + 1) // 2
        return left, above, left + side, above + side


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """From bytes to what a network takes, where it is: (x / 255 - mean) / std, by channel.

    Attributes:
        mean: Of the pixels of each channel, between 0 and 1.
        std: Their standard deviation.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, images: UInt8[Tensor, "b c height width"]) -> Float[Tensor, "b c height width"]:
        """Normalise images."""
        factors = _by_channel(tuple(1 / (255 * std) for std in self.std), images.device)
        terms = _by_channel(
            tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True)), images.device
        )
        return images.float().mul_(factors).add_(terms)

    def undone(self, images: Float[Tensor, "*b c height width"]) -> Float[Tensor, "*b c height width"]:
        """Pixels between 0 and 1, as they were."""
        return images * _by_channel(self.std, images.device) + _by_channel(self.mean, images.device)


@cache
def _by_channel(numbers: tuple[float, ...], device: torch.device) -> Float[Tensor, "c 1 1"]:
    # Copied to a device once: each copy would wait for it. Usable for gradients wherever it was made.
    with torch.inference_mode(False):
        return torch.tensor(numbers, device=device)[:, None, None]


def crop_box(width: int, height: int, min_area: float, draws: list[float]) -> Box:
    """Where a random part of an image is: its share of the area, then its aspect, are drawn evenly.

    The aspect evenly in its logarithm. After ten parts that do not fit, the middle of the image.

    Args:
        width: Of the image.
        height: Of the image.
        min_area: Least share of the area.
        draws: Numbers between 0 and 1: two for the place, then two for each try.
    """
    across, down, *tries = draws
    low, high = math.log(ASPECTS[0]), math.log(ASPECTS[1])
    for first, second in zip(tries[::2], tries[1::2], strict=True):
        area = width * height * (min_area + (1 - min_area) * first)
        aspect = math.exp(low + (high - low) * second)
        part_width, part_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            left, above = int(across * (width - part_width + 1)), int(down * (height - part_height + 1))
            return left, above, left + part_width, above + part_height
    part_width = min(width, max(1, round(height * ASPECTS[1])))
    part_height = min(height, max(1, round(width / ASPECTS[0])))
    left, above = (width - part_width) // 2, (height - part_height) // 2
    return left, above, left + part_width, above + part_height


def resized(image: Image.Image, box: Box, size: int) -> Pixels:
    """A part of an image at another size: bicubic, averaged where it shrinks.

    torch does in a quarter of the time what Pillow does, but on a copy; the two differ by at most one of 255
    levels.
    """
    part = image.crop(box)
    if part.width * part.height > _COPIED_PIXELS:
        small = part.resize((size, size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)  # 3 height width
    return interpolate(pixels[None], (size, size), mode="bicubic", antialias=True)[0]


def mix(
    images: Images,
    targets: Targets,
    num_classes: int,
    *,
    mixup: float,
    cutmix: float,
    words: tuple[int, ...],
) -> tuple[Images, Targets]:
    """Mix each image of a batch with its neighbour, and their classes in proportion.

    Args:
        images: The images, as the network takes them.
        targets: Their classes.
        num_classes: Classes of the labels.
        mixup: Alpha of mixup, which blends the two; 0 for none.
        cutmix: Alpha of cutmix, which pastes a part of one; 0 for none. With both, each batch takes one or
            the other, as the words decide.
        words: Of the seed.

    Returns:
        The images, and a share of every class; with neither alpha both as they came.
    """
    if not mixup and not cutmix:
        return images, targets
    from torchvision.transforms import v2

    with seeded(Purpose.MIX, *words):
        takes_mixup = mixup > 0 and (not cutmix or random.random() < 0.5)
        kind, alpha = (v2.MixUp, mixup) if takes_mixup else (v2.CutMix, cutmix)
        mixed: tuple[Images, Targets] = kind(alpha=alpha, num_classes=num_classes)(images, targets)
    return mixed


@contextmanager
def seeded(*words: int) -> Iterator[None]:
    """Let what other libraries draw follow from the words alone, and leave no trace of it.

    The generators of numpy, of Python, and torch's of the processor are put back as they were.
    """
    before = np.random.get_state(), random.getstate(), torch.get_rng_state()
    first, second, third = np.random.SeedSequence(words).generate_state(3).tolist()
    np.random.seed(first)
    random.seed(second)
    torch.default_generator.manual_seed(third)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])
        torch.set_rng_state(before[2])
