"""Models by name."""

from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import Any

from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.models.config import ResNetConfig
from lambdanets.models.resnet import ResNet
from lambdanets.models.variants import VARIANTS


def create_model(name: str, num_classes: int = 1000, in_channels: int = 3, **overrides: Any) -> ResNet:
    """Build a model by its name, with random weights.

    Args:
        name: One of `list_models()`.
        num_classes: Width of the classifier.
        in_channels: Channels of the images.
        **overrides: Any field of `ResNetConfig`, such as `layers="CCLL"`, `query_depth=8`, `num_heads=8`,
            `intra_depth=4`, `scope_size=7` (None: global), `content=False`, `positional=False`,
            `share_position="stage"`, `key_normalization="l2"`, `image_size=288`.

    Raises:
        ArgumentError: An unknown name or override, with the nearest known ones; values that do not fit.

    Example:
        >>> model = create_model("resnet50_llll", scope_size=7)
        >>> sum(parameter.numel() for parameter in model.parameters())
        14872712
    """
    return ResNet(model_config(name, num_classes=num_classes, in_channels=in_channels, **overrides))


def model_config(name: str, **overrides: Any) -> ResNetConfig:
    """The config of a model by its name, with overrides.

    Another pattern of `layers` drops the row's `lambda_blocks`, unless these are given too.
    """
    if name not in VARIANTS:
        raise ArgumentError(
            f"create_model: unknown model {name!r}.{did_you_mean(name, VARIANTS)} "
            f"list_models() shows all {len(VARIANTS)}."
        )
    known = [field.name for field in fields(ResNetConfig)]
    for override in overrides:
        if override not in known:
            raise ArgumentError(
                f"create_model: unknown override {override!r}.{did_you_mean(override, known)} "
                f"Known: {', '.join(known)}."
            )
    if "layers" in overrides:
        overrides = {"lambda_blocks": {}, **overrides}
    # JSON knows lists; the config wants tuples.
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in overrides.items()}
    return replace(VARIANTS[name], **plain)


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, such as `"lambda*"`.

    Example:
        >>> list_models("lambda_resnet1*")
        ['lambda_resnet101', 'lambda_resnet101_c4', 'lambda_resnet152', 'lambda_resnet152_c4']
    """
    return sorted(name for name in VARIANTS if fnmatchcase(name, pattern))
