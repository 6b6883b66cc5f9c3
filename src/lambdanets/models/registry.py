"""Models by name: the rows, with overrides; nothing here needs torch."""

from collections.abc import Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import Any

from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.models.variants import VARIANTS, NetworkConfig


def model_config(name: str, **overrides: Any) -> NetworkConfig:
    """The config of a model by its name, with overrides.

    Another pattern of a ResNet's `layers` drops the row's `lambda_blocks`, unless these are given too.
    """
    if name not in VARIANTS:
        raise ArgumentError(
            f"create_model: unknown model {name!r}.{did_you_mean(name, VARIANTS)} "
            f"list_models() shows all {len(VARIANTS)}."
        )
    known = [field.name for field in fields(VARIANTS[name])]
    for override in overrides:
        if override not in known:
            raise ArgumentError(
                f"create_model: unknown override {override!r}.{did_you_mean(override, known)} "
                f"Known: {', '.join(known)}."
            )
    if "layers" in overrides:
        overrides = {"lambda_blocks": {}, **overrides}
    plain: dict[str, Any] = {key: _tuples(value) for key, value in overrides.items()}
    return replace(VARIANTS[name], **plain)


def _tuples(value: Any) -> Any:
    """JSON knows lists; the config wants tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, such as `"lambda*"`.

    Example:
        >>> list_models("lambda_resnet1*")
        ['lambda_resnet101', 'lambda_resnet101_c4', 'lambda_resnet152', 'lambda_resnet152_c4']
    """
    return sorted(name for name in VARIANTS if fnmatchcase(name, pattern))
