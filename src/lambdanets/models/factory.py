"""Models built by their names, networks without memory, and parameters in groups for an optimizer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lambdanets.models.config import MobileNetConfig
from lambdanets.models.mobilenet import MobileNetV2
from lambdanets.models.resnet import ResNet
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
    return MobileNetV2(config) if isinstance(config, MobileNetConfig) else ResNet(config)


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a network; shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def parameter_groups(
    model: nn.Module, weight_decay: float, *, decay_position: bool = True
) -> list[dict[str, Any]]:
    """Groups for an optimizer: norms and biases without weight decay, everything else with it.

    Args:
        model: Any module.
        weight_decay: Weight decay of the group that has it.
        decay_position: Decay position tables like other weights; whether the paper did is not known.

    Returns:
        Two groups, `{"params": …, "weight_decay": …}`; together they hold every parameter once.
    """
    undecayed: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_position = isinstance(module, AttentionProduct) or (
                isinstance(module, RelativePosition | DensePosition) and name == "table"
            )
            if (is_position and not decay_position) or (not is_position and parameter.ndim <= 1):
                undecayed.add(id(parameter))
    parameters = list(model.parameters())
    return [
        {"params": [one for one in parameters if id(one) not in undecayed], "weight_decay": weight_decay},
        {"params": [one for one in parameters if id(one) in undecayed], "weight_decay": 0.0},
    ]


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
