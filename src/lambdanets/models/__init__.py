"""Models: configs, two skeletons, and a table of names."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.models.config import LambdaConfig, MobileNetConfig, ResNetConfig
    from lambdanets.models.factory import create_model, on_meta, parameter_groups
    from lambdanets.models.mobilenet import MobileNetV2
    from lambdanets.models.resnet import ResNet
    from lambdanets.models.variants import list_models, model_config

__all__ = [
    "LambdaConfig",
    "MobileNetConfig",
    "MobileNetV2",
    "ResNet",
    "ResNetConfig",
    "create_model",
    "list_models",
    "model_config",
    "on_meta",
    "parameter_groups",
]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "LambdaConfig": "lambdanets.models.config",
        "MobileNetConfig": "lambdanets.models.config",
        "MobileNetV2": "lambdanets.models.mobilenet",
        "ResNet": "lambdanets.models.resnet",
        "ResNetConfig": "lambdanets.models.config",
        "create_model": "lambdanets.models.factory",
        "list_models": "lambdanets.models.variants",
        "model_config": "lambdanets.models.variants",
        "on_meta": "lambdanets.models.factory",
        "parameter_groups": "lambdanets.models.factory",
    },
)
