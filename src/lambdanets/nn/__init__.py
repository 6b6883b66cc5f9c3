"""Modules: parameters, normalisation and initialisation around the functional mathematics."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.nn.attention import (
        AugmentedConvolution2d,
        AxialAttention2d,
        GlobalAttention2d,
        LinearAttention2d,
    )
    from lambdanets.nn.channel_attention import FiLM, SqueezeExcitation
    from lambdanets.nn.lambda_layer import LambdaLayer1d, LambdaLayer2d, LambdaLayer3d
    from lambdanets.nn.local_attention import LocalAttention2d, LocalRelation2d, VectorAttention2d
    from lambdanets.nn.normalization import ChannelLayerNorm
    from lambdanets.nn.position import DensePosition, RelativePosition, set_implementation
    from lambdanets.nn.stochastic_depth import StochasticDepth
    from lambdanets.nn.token_layer import LambdaLayer

__all__ = [
    "AugmentedConvolution2d",
    "AxialAttention2d",
    "ChannelLayerNorm",
    "DensePosition",
    "FiLM",
    "GlobalAttention2d",
    "LambdaLayer",
    "LambdaLayer1d",
    "LambdaLayer2d",
    "LambdaLayer3d",
    "LinearAttention2d",
    "LocalAttention2d",
    "LocalRelation2d",
    "RelativePosition",
    "SqueezeExcitation",
    "StochasticDepth",
    "VectorAttention2d",
    "set_implementation",
]

__getattr__, __dir__ = resolve_lazily(
    __name__,
    {
        "AugmentedConvolution2d": "lambdanets.nn.attention",
        "AxialAttention2d": "lambdanets.nn.attention",
        "ChannelLayerNorm": "lambdanets.nn.normalization",
        "DensePosition": "lambdanets.nn.position",
        "FiLM": "lambdanets.nn.channel_attention",
        "GlobalAttention2d": "lambdanets.nn.attention",
        "LambdaLayer": "lambdanets.nn.token_layer",
        "LambdaLayer1d": "lambdanets.nn.lambda_layer",
        "LambdaLayer2d": "lambdanets.nn.lambda_layer",
        "LambdaLayer3d": "lambdanets.nn.lambda_layer",
        "LinearAttention2d": "lambdanets.nn.attention",
        "LocalAttention2d": "lambdanets.nn.local_attention",
        "LocalRelation2d": "lambdanets.nn.local_attention",
        "RelativePosition": "lambdanets.nn.position",
        "SqueezeExcitation": "lambdanets.nn.channel_attention",
        "StochasticDepth": "lambdanets.nn.stochastic_depth",
        "VectorAttention2d": "lambdanets.nn.local_attention",
        "set_implementation": "lambdanets.nn.position",
    },
)
