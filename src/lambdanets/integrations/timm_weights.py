"""Networks of timm with their trained weights: downloaded, or from a file."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, CheckpointError, PathError, did_you_mean, first_line
from lambdanets.integrations.timm import _timm


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
    timm = _timm()
    is_hub = name.startswith("hf-hub:")
    if not is_hub and not timm.is_model(name):
        raise ArgumentError(
            f"load_timm: name must be a model of timm, got {name!r}.{did_you_mean(name, timm.list_models())}"
        )
    if weights is not None:
        return _from_file(timm, name, weights)
    try:
        model: nn.Module = timm.create_model(name, pretrained=True)
    # Each layer of the download has errors of its own.
    except Exception as error:
        raise PathError(
            f"load_timm: the weights of {name} must be within reach, got '{first_line(error)}'. Without a"
            " network give them with --weights FILE.safetensors."
        ) from error
    return model


def _from_file(timm: Any, name: str, path: Path) -> nn.Module:
    if not path.is_file():
        raise PathError(f"load_timm: weights must be a file, got {path}, which does not exist.")
    try:
        tensors = load_file(path)
        usual = timm.create_model(name).pretrained_cfg
        model: nn.Module = timm.create_model(
            name,
            num_classes=len(_layer(tensors, usual["classifier"])),
            in_chans=_layer(tensors, usual["first_conv"]).shape[1],
        )
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"load_timm: {path} must hold the weights of {name}, got '{first_line(error)}'."
        ) from error
    return model


def _layer(tensors: dict[str, Tensor], name: str | tuple[str, ...]) -> Tensor:
    """The weights of a layer; of several with one role, the first one's."""
    return tensors[f"{name if isinstance(name, str) else name[0]}.weight"]
