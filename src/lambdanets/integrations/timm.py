"""Models of timm that the paper compares with, by the names its tables use."""

import contextlib
import importlib
import sys
from types import ModuleType
from typing import Final

from torch import nn

from lambdanets.errors import ArgumentError, DependencyError, did_you_mean

# Ours -> timm's. The paper's EfficientNets are TensorFlow's, which timm has as `tf_`: they pad as it does.
BASELINES: Final[dict[str, str]] = {
    **{f"efficientnet_b{size}": f"tf_efficientnet_b{size}" for size in range(8)},
    "mobilenetv2_100": "mobilenetv2_100",
    **{f"resnetrs{depth}": f"resnetrs{depth}" for depth in (50, 101, 152, 200, 270, 350, 420)},
    "vit_large_patch16_384": "vit_large_patch16_384",
}

_INSTALL: Final = "pip install 'lambdanets[train]'."


def create_baseline(name: str, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Build a model of timm that the paper compares with, with random weights.

    Args:
        name: A key of `BASELINES`.
        num_classes: Width of the classifier.
        in_channels: Channels of the images.

    Raises:
        ArgumentError: An unknown name, with the nearest known ones.
        DependencyError: timm, or the torchvision it needs, cannot be imported.
    """
    if name not in BASELINES:
        raise ArgumentError(
            f"create_baseline: unknown model {name!r}.{did_you_mean(name, BASELINES)} "
            f"Known: {', '.join(BASELINES)}."
        )
    model: nn.Module = _timm().create_model(BASELINES[name], num_classes=num_classes, in_chans=in_channels)
    return model


def _timm() -> ModuleType:
    try:
        # What libraries say while they are imported is no part of what a command prints.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module("timm")
    except ImportError as error:
        raise DependencyError(
            f"create_baseline: timm must be installed, got {str(error)!r}. {_INSTALL}"
        ) from error
