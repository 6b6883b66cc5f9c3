"""Modules: parameters, normalisation and initialisation around the functional mathematics."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.nn.lambda_layer import LambdaLayer1d, LambdaLayer2d, LambdaLayer3d
    from lambdanets.nn.normalization import ChannelLayerNorm
    from lambdanets.nn.position import DensePosition, RelativePosition, set_implementation
    from lambdanets.nn.squeeze_excitation import SqueezeExcitation
    from lambdanets.nn.stochastic_depth import StochasticDepth
    from lambdanets.nn.token_layer import LambdaLayer

__all__ = [
    "ChannelLayerNorm",
    "DensePosition",
    "LambdaLayer",
    "LambdaLayer1d",
    "LambdaLayer2d",
    "LambdaLayer3d",
    "RelativePosition",
    "SqueezeExcitation",
    "StochasticDepth",
    "set_implementation",
]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "ChannelLayerNorm": "lambdanets.nn.normalization",
        "DensePosition": "lambdanets.nn.position",
        "LambdaLayer": "lambdanets.nn.token_layer",
        "LambdaLayer1d": "lambdanets.nn.lambda_layer",
        "LambdaLayer2d": "lambdanets.nn.lambda_layer",
        "LambdaLayer3d": "lambdanets.nn.lambda_layer",
        "RelativePosition": "lambdanets.nn.position",
        "SqueezeExcitation": "lambdanets.nn.squeeze_excitation",
        "StochasticDepth": "lambdanets.nn.stochastic_depth",
        "set_implementation": "lambdanets.nn.position",
    },
)
