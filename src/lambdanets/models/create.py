"""Models by name, built."""

from typing import Any

from lambdanets.models.mobilenet import MobileNetV2
from lambdanets.models.mobilenet_config import MobileNetConfig
from lambdanets.models.registry import model_config
from lambdanets.models.resnet import ResNet

Network = ResNet | MobileNetV2


def create_model(name: str, num_classes: int = 1000, in_channels: int = 3, **overrides: Any) -> Network:
    """Build a model by its name, with random weights.

    Args:
        name: One of `list_models()`.
        num_classes: Width of the classifier.
        in_channels: Channels of the images.
        **overrides: Any field of the model's config, `ResNetConfig` or `MobileNetConfig`, such as
            `layers="CCLL"`, `query_depth=8`, `num_heads=8`, `intra_depth=4`, `scope_size=7` (None: global),
            `content=False`, `positional=False`, `share_position="stage"`, `key_normalization="l2"`,
            `image_size=288`, `lambda_blocks=(10, 16)`.

    Raises:
        ArgumentError: An unknown name or override, with the nearest known ones; values that do not fit.

    Example:
        >>> model = create_model("resnet50_llll", scope_size=7)
        >>> sum(parameter.numel() for parameter in model.parameters())
        14872712
    """
    config = model_config(name, num_classes=num_classes, in_channels=in_channels, **overrides)
    return MobileNetV2(config) if isinstance(config, MobileNetConfig) else ResNet(config)
