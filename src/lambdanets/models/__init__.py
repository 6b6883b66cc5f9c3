"""Models: configs, two skeletons, and a table of names."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.models.config import LambdaConfig as LambdaConfig
    from lambdanets.models.config import MobileNetConfig as MobileNetConfig
    from lambdanets.models.config import ResNetConfig as ResNetConfig
    from lambdanets.models.factory import create_model as create_model
    from lambdanets.models.factory import on_meta as on_meta
    from lambdanets.models.factory import parameter_groups as parameter_groups
    from lambdanets.models.mobilenet import MobileNetV2 as MobileNetV2
    from lambdanets.models.resnet import ResNet as ResNet
    from lambdanets.models.variants import list_models as list_models
    from lambdanets.models.variants import model_config as model_config
else:
    # Where a type checker does not see it: to one, a module with __getattr__ has every name.
    __all__, __getattr__, __dir__ = resolve_lazily(__name__)
