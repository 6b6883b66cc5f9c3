"""Models of timm: the baselines of the paper by the names its tables use, and any with trained weights."""

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lambdanets.errors import (
    ArgumentError,
    CheckpointError,
    DependencyError,
    PathError,
    did_you_mean,
    first_line,
)

# Ours -> timm's. The paper's EfficientNets are TensorFlow's, which timm has as `tf_`: they pad as it does.
BASELINES: Final[dict[str, str]] = {
    **{f"efficientnet_b{size}": f"tf_efficientnet_b{size}" for size in range(8)},
    "mobilenetv2_100": "mobilenetv2_100",
    **{f"resnetrs{depth}": f"resnetrs{depth}" for depth in (50, 101, 152, 200, 270, 350, 420)},
    "vit_large_patch16_384": "vit_large_patch16_384",
}


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
    timm = _import_timm("create_baseline")
    return timm.create_model(BASELINES[name], num_classes=num_classes, in_chans=in_channels)


def load_timm(name: str, weights: Path | None = None) -> nn.Module:
    """Build a model of timm with trained weights.

    Args:
        name: As timm lists it, or `hf-hub:` with the name of a repository in timm's format.
        weights: A safetensors file; its classifier says how many classes there are, its first layer how many
            channels an image has. None: the weights are downloaded.

    Raises:
        ArgumentError: An unknown name, with the nearest known ones.
        PathError: The weights cannot be downloaded, or there is no such file.
        CheckpointError: The file does not hold the weights of this model.
        DependencyError: timm, or the torchvision it needs, cannot be imported.
    """
    timm = _import_timm("load_timm")
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        raise ArgumentError(
            f"load_timm: name must be a model of timm, got {name!r}.{did_you_mean(name, timm.list_models())}"
        )
    if weights is None:
        try:
            return timm.create_model(name, pretrained=True)
        # Each layer of the download has errors of its own.
        except Exception as error:
            raise PathError(
                f"load_timm: the weights of {name} must be within reach, got '{first_line(error)}'. Without a"
                " network give them with --weights FILE.safetensors."
            ) from error
    if not weights.is_file():
        raise PathError(f"load_timm: weights must be a file, got {weights}, which does not exist.")
    try:
        tensors = load_file(weights)
        roles = timm.create_model(name).pretrained_cfg
        num_classes = len(_weight(tensors, roles["classifier"]))
        in_channels = _weight(tensors, roles["first_conv"]).shape[1]
        model: nn.Module = timm.create_model(name, num_classes=num_classes, in_chans=in_channels)
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"load_timm: {weights} must hold the weights of {name}, got '{first_line(error)}'."
        ) from error
    return model


def _import_timm(who: str) -> Any:
    """Import timm; what it prints meanwhile is no part of what a command prints."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module("timm")
    except ImportError as error:
        raise DependencyError(
            f"{who}: timm must be installed, got {str(error)!r}. pip install 'lambdanets[train]'."
        ) from error


def _weight(tensors: dict[str, Tensor], name: str | tuple[str, ...]) -> Tensor:
    """The weights of a layer; of several with one role, the first one's."""
    return tensors[f"{name if isinstance(name, str) else name[0]}.weight"]
