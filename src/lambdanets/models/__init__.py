"""Models: a config, one skeleton, and a table of names."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.models.config import ResNetConfig
    from lambdanets.models.create import create_model
    from lambdanets.models.mobilenet import MobileNetV2
    from lambdanets.models.mobilenet_config import MobileNetConfig
    from lambdanets.models.parameters import parameter_groups
    from lambdanets.models.registry import list_models, model_config
    from lambdanets.models.resnet import ResNet

__all__ = [
    "MobileNetConfig",
    "MobileNetV2",
    "ResNet",
    "ResNetConfig",
    "create_model",
    "list_models",
    "model_config",
    "parameter_groups",
]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "MobileNetConfig": "lambdanets.models.mobilenet_config",
        "MobileNetV2": "lambdanets.models.mobilenet",
        "ResNet": "lambdanets.models.resnet",
        "ResNetConfig": "lambdanets.models.config",
        "create_model": "lambdanets.models.create",
        "list_models": "lambdanets.models.registry",
        "model_config": "lambdanets.models.registry",
        "parameter_groups": "lambdanets.models.parameters",
    },
)
