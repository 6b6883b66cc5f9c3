"""The names inside the library that the golden tests need: where one moves, one line here changes."""

import numpy as np
import torch

from lambdanets.data import decode as decoding
from lambdanets.data import transforms
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.preprocessing import Preprocessing


def decode(path):
    """The training decoder: RGB bytes "height width 3" of an image file."""
    return np.asarray(decoding.decode(path.read_bytes(), path.name))


def train_view(path, seed, epoch, index, size, **augment):
    """What training shows of an image file: RGB bytes "3 size size"."""
    image = decoding.decode(path.read_bytes(), path.name)
    return _bytes(
        transforms.TrainTransform(size=size, augment=AugmentConfig(**augment))(image, (seed, epoch, index))
    )


def eval_view(path, size, fraction=None):
    """What a test shows of an image file: RGB bytes "3 size size"."""
    image = decoding.decode(path.read_bytes(), path.name)
    return _bytes(Preprocessing(size=size, crop_fraction=fraction).pixels(image))


def _bytes(pixels: torch.Tensor) -> np.ndarray:
    assert pixels.dtype == torch.uint8
    return pixels.contiguous().numpy()
