"""Modules: parameters, normalisation and initialisation around the functional mathematics."""

from typing import TYPE_CHECKING

from lambdanets._lazy import resolve_lazily

if TYPE_CHECKING:
    from lambdanets.nn.attention import AugmentedConvolution2d as AugmentedConvolution2d
    from lambdanets.nn.attention import AxialAttention2d as AxialAttention2d
    from lambdanets.nn.attention import GlobalAttention2d as GlobalAttention2d
    from lambdanets.nn.attention import LinearAttention2d as LinearAttention2d
    from lambdanets.nn.children import ChannelLayerNorm as ChannelLayerNorm
    from lambdanets.nn.lambda_layer import LambdaLayer1d as LambdaLayer1d
    from lambdanets.nn.lambda_layer import LambdaLayer2d as LambdaLayer2d
    from lambdanets.nn.lambda_layer import LambdaLayer3d as LambdaLayer3d
    from lambdanets.nn.local_attention import LocalAttention2d as LocalAttention2d
    from lambdanets.nn.local_attention import LocalRelation2d as LocalRelation2d
    from lambdanets.nn.local_attention import VectorAttention2d as VectorAttention2d
    from lambdanets.nn.position import DensePosition as DensePosition
    from lambdanets.nn.position import RelativePosition as RelativePosition
    from lambdanets.nn.position import set_implementation as set_implementation
    from lambdanets.nn.scaling import FiLM as FiLM
    from lambdanets.nn.scaling import SqueezeExcitation as SqueezeExcitation
    from lambdanets.nn.scaling import StochasticDepth as StochasticDepth
    from lambdanets.nn.token_layer import LambdaLayer as LambdaLayer
else:
    # Where a type checker does not see it: to one, a module with __getattr__ has every name.
    __all__, __getattr__, __dir__ = resolve_lazily(__name__)
