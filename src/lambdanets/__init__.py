"""LambdaNetworks: long-range interactions without attention.

Paper: Bello, "LambdaNetworks: Modeling long-range interactions without attention", ICLR 2021.
"""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets import functional, models, nn
    from lambdanets.models import create_model, list_models
    from lambdanets.nn import LambdaLayer, LambdaLayer1d, LambdaLayer2d, LambdaLayer3d
    from lambdanets.runs.load import LoadedModel, load_run

__version__ = "0.1.0"

__all__ = [
    "LambdaLayer",
    "LambdaLayer1d",
    "LambdaLayer2d",
    "LambdaLayer3d",
    "LoadedModel",
    "__version__",
    "create_model",
    "functional",
    "list_models",
    "load_run",
    "models",
    "nn",
]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "LambdaLayer": "lambdanets.nn.token_layer",
        "LambdaLayer1d": "lambdanets.nn.lambda_layer",
        "LambdaLayer2d": "lambdanets.nn.lambda_layer",
        "LambdaLayer3d": "lambdanets.nn.lambda_layer",
        "LoadedModel": "lambdanets.runs.load",
        "create_model": "lambdanets.models.factory",
        "list_models": "lambdanets.models.variants",
        "load_run": "lambdanets.runs.load",
    },
    submodules=("functional", "models", "nn"),
)
