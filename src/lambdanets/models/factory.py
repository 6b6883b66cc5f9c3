"""Models built by their names, networks without memory, and parameters in groups for an optimizer."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lambdanets.errors import ArgumentError
from lambdanets.models.config import MobileNetConfig
from lambdanets.models.mobilenet import MobileNetV2
from lambdanets.models.resnet import ResNet
from lambdanets.models.stages import StagedNetwork
from lambdanets.models.variants import model_config
from lambdanets.nn.attention import AttentionProduct
from lambdanets.nn.position import DensePosition, RelativePosition

Network = ResNet | MobileNetV2


def create_model(name: str, num_classes: int = 1000, in_channels: int = 3, **overrides: Any) -> Network:
    """Build a model by its name, with random weights.

    Args:
        name: One of `list_models()`.
        num_classes: Width of the classifier.
        in_channels: Channels of the images.
        **overrides: Any field of the model's config, `ResNetConfig` or `MobileNetConfig`, such as
            `layers="CCLL"` or `image_size=288`, and any of `LambdaConfig`, such as `query_depth=8` or
            `scope_size=None`.

    Raises:
        ArgumentError: An unknown name or override, with the nearest known ones; values that do not fit.

    Example:
        >>> model = create_model("resnet50_llll", scope_size=7)
        >>> sum(parameter.numel() for parameter in model.parameters())
        14872712
    """
    config = model_config(name, num_classes=num_classes, in_channels=in_channels, **overrides)
    make = partial(MobileNetV2, config) if isinstance(config, MobileNetConfig) else partial(ResNet, config)
    # Layers of a user's own are made once.
    if not any(callable(one) or ":" in str(one) for one in overrides.values()):
        _check_memory(name, make)
    return make()


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a network; shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def parameter_groups(
    model: nn.Module, weight_decay: float, *, decay_position: bool = True, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for an optimizer: norms and biases without weight decay, everything else with it.

    With a `layer_decay` γ below 1 each layer has groups of its own, with γ^(number of layers behind it) as
    `lr_scale`, the factor of its learning rate. The layers are the stem, every block and the classifier,
    whose factor is 1, as in timm; so is that of what is built on a network, such as a detector's heads.

    Args:
        model: Any module; with `layer_decay`, a network of `create_model` or one that holds such a network.
        weight_decay: Weight decay of the groups that have it.
        decay_position: Decay position tables like other weights; whether the paper did is not known.
        layer_decay: Learning rate of a layer, over that of the next one.

    Returns:
        Two groups, `{"params": …, "weight_decay": …}`, or up to two for each layer, from the stem on;
        together they hold every parameter that has gradients once.

    Raises:
        ArgumentError: `layer_decay` for a network without layers that are known.
    """
    undecayed: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_position = isinstance(module, AttentionProduct) or (
                isinstance(module, RelativePosition | DensePosition) and name == "table"
            )
            if (is_position and not decay_position) or (not is_position and parameter.ndim <= 1):
                undecayed.add(id(parameter))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [one for one in parameters if id(one) not in undecayed], "weight_decay": weight_decay},
        {"params": [one for one in parameters if id(one) in undecayed], "weight_decay": 0.0},
    ]
    if layer_decay == 1.0:
        return groups
    scales = _learning_rate_scales(model, layer_decay)
    by_scale = [
        {
            **group,
            "params": [one for one in group["params"] if scales.get(id(one), 1.0) == scale],
            "lr_scale": scale,
        }
        for scale in sorted({*scales.values(), 1.0})
        for group in groups
    ]
    return [group for group in by_scale if group["params"]]


def _learning_rate_scales(model: nn.Module, layer_decay: float) -> dict[int, float]:
    """The factor of the learning rate of each parameter before the classifier, by its id."""
    network = next((part for part in model.modules() if isinstance(part, StagedNetwork)), None)
    if network is None:
        raise ArgumentError(
            f"parameter_groups: layer_decay must be 1 for a network without known layers, got {layer_decay}"
            f" for {type(model).__name__}. Networks of create_model have them."
        )
    layers = list(network.layers().values())
    scales: dict[int, float] = {}
    for place, layer in enumerate(layers):
        for parameter in layer.parameters():
            # A table that blocks share belongs to the first of them.
            scales.setdefault(id(parameter), layer_decay ** (len(layers) - place))
    return scales


def _check_memory(name: str, make: Callable[[], nn.Module]) -> None:
    """Raise where the memory of the machine cannot hold the weights of a network, before it is asked for."""
    if torch.get_default_device().type != "cpu":
        return
    with on_meta():
        size = sum(tensor.nbytes for tensor in make().state_dict().values())
    if size > _memory():
        raise ArgumentError(
            f"create_model: {name} must fit into the {_memory() / 1e9:.0f} GB of this machine's memory, got"
            f" {size / 1e9:.0f} GB of weights. Use smaller widths, depths or tables."
        )


def _memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# What fills a tensor with random numbers.
_DRAWS: Final = {
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.uniform_,
}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, without gradients, and the mode of each part back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def on_meta() -> Iterator[None]:
    """Make modules on the meta device, and draw no numbers for what has no memory.

    Drawing would take most of the time: torch does it on this device by Python code, which it imports first.
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
