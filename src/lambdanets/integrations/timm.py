"""Models of timm: the baselines of the paper by the names its tables use, and any with trained weights."""

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.dependencies import missing_library
from lambdanets.errors import ArgumentError, CheckpointError, PathError, did_you_mean, first_line
from lambdanets.reading import UnreadableError
from lambdanets.tensor_files import load_tensors

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
    if not os.path.lexists(weights):
        raise PathError(f"load_timm: weights must be a file, got {weights}, which does not exist.")
    try:
        tensors, _ = load_tensors(weights)
        roles = timm.create_model(name).pretrained_cfg
        num_classes = len(_weight(tensors, roles["classifier"]))
        in_channels = _weight(tensors, roles["first_conv"]).shape[1]
        model: nn.Module = timm.create_model(name, num_classes=num_classes, in_chans=in_channels)
        model.load_state_dict(tensors)
    except (UnreadableError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"load_timm: {weights} must hold the weights of {name}, got '{first_line(error)}'."
        ) from error
    return model


# Maps of a finer stride would cost a detector more than they tell it.
_LEAST_STRIDE: Final = 4
_MOST_STAGES: Final = 4


def create_timm_backbone(name: str, in_channels: int = 3, **overrides: Any) -> "TimmBackbone":
    """Build a model of timm as a backbone of detectors, with random weights.

    Args:
        name: As timm lists it, of a model that takes `features_only`.
        in_channels: Channels of the images.
        **overrides: Keyword arguments of timm's `create_model`.

    Raises:
        ArgumentError: An unknown name, with the nearest known ones; a model that gives no feature maps.
        DependencyError: timm, or the torchvision it needs, cannot be imported.
    """
    timm = _import_timm("create_timm_backbone")
    if not timm.is_model(name):
        raise ArgumentError(
            f"create_timm_backbone: name must be a model of timm, got {name!r}."
            f"{did_you_mean(name, timm.list_models())}"
        )
    options = {"features_only": True, "in_chans": in_channels, **overrides}
    try:
        strides = timm.create_model(name, **options).feature_info.reduction()
        # The last map of each stride, of the coarsest four; what lies behind the last one is cut off.
        last = {stride: index for index, stride in enumerate(strides) if stride >= _LEAST_STRIDE}
        indices = tuple(sorted(last.values())[-_MOST_STAGES:])
        network = timm.create_model(name, out_indices=indices, **options)
    # Each model has its own errors, for features it has not or arguments that it does not know.
    except Exception as error:
        raise ArgumentError(
            f"create_timm_backbone: name and overrides must give a model with features, got {name!r} and"
            f" {overrides}, of which timm says '{first_line(error)}'."
        ) from error
    return TimmBackbone(network)


class TimmBackbone(nn.Module):
    """A model of timm with the interface of our networks: `features`, `channels` and `strides`.

    Stages are named by their strides, such as `stride4`.

    Args:
        network: What timm makes with `features_only=True`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        info: Any = network.feature_info
        self.strides: dict[str, int] = {f"stride{stride}": stride for stride in info.reduction()}
        self.channels: dict[str, int] = dict(zip(self.strides, info.channels(), strict=True))

    def set_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Keep less for backward and compute it again, where timm has it for the model."""
        switch: Any = self.network.set_grad_checkpointing
        switch(enabled)

    def features(self, images: Float[Tensor, "b c height width"]) -> dict[str, Float[Tensor, "b d _ _"]]:
        """The output of each stage, by name."""
        maps = self.network(images)
        if getattr(self.network, "output_fmt", None) == "NHWC":
            maps = [one.movedim(-1, 1) for one in maps]
        return dict(zip(self.strides, maps, strict=True))


def _import_timm(who: str) -> Any:
    """Import timm; what it prints meanwhile is no part of what a command prints."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module("timm")
    except ImportError as error:
        raise missing_library(who, "timm", repr(str(error))) from error


def _weight(tensors: dict[str, Tensor], name: str | tuple[str, ...]) -> Tensor:
    """The weights of a layer; of several with one role, the first one's."""
    return tensors[f"{name if isinstance(name, str) else name[0]}.weight"]
