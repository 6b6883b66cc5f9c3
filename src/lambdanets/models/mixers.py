"""Mixers: what stands where a bottleneck's 3×3 convolution stood, by a letter of the stage pattern.

A further attention is a name of `MixerName` and a line of `_make_attention`. Configs read the names; torch is
imported when a layer is made.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

    from lambdanets.models.config import ResNetConfig
    from lambdanets.nn.position import RelativePosition

MixerName = Literal[
    "augmented_convolution",
    "axial_attention",
    "double_attention",
    "efficient_attention",
    "global_attention",
    "linear_attention",
    "local_attention",
    "local_relation",
    "pairwise_attention",
    "patchwise_attention",
    "relative_attention",
]


def make_mixer(
    letter: str,
    config: "ResNetConfig",
    stage: str,
    width: int,
    stride: int,
    position: "RelativePosition | None" = None,
) -> "nn.Module":
    """A convolution, a lambda layer or an attention.

    Args:
        letter: C, L or A.
        config: Of the whole network.
        stage: Which stage the layer is in.
        width: Channels of its inputs and outputs.
        stride: 1 or 2.
        position: Position module that a lambda layer shares, if any.
    """
    from torch import nn

    from lambdanets.nn import LambdaLayer2d

    if letter == "C":
        return nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
    if letter == "A":
        return _make_attention(config, stage, width, stride)
    size = _size_at(config, stage, stride)
    options = asdict(config.lambda_layer)
    return LambdaLayer2d(width, feature_size=size, position=position, stride=stride, **options)


def _make_attention(config: "ResNetConfig", stage: str, width: int, stride: int) -> "nn.Module":
    from lambdanets.nn import (
        AugmentedConvolution2d,
        AxialAttention2d,
        GlobalAttention2d,
        LambdaLayer2d,
        LinearAttention2d,
        LocalAttention2d,
        LocalRelation2d,
        VectorAttention2d,
    )

    size, pooled_size = _size_at(config, stage, stride), config.map_sizes(stage)[1]
    h, r = config.attention_heads, config.attention_window
    content = asdict(config.lambda_layer) | {"positional": False}
    layers: dict[MixerName, Callable[..., nn.Module]] = {
        "augmented_convolution": partial(AugmentedConvolution2d, feature_size=pooled_size, num_heads=h),
        "axial_attention": partial(AxialAttention2d, feature_size=size, num_heads=h),
        "double_attention": partial(LinearAttention2d, num_heads=1, query_depth=max(1, width // 2)),
        "efficient_attention": partial(LinearAttention2d, num_heads=h),
        "global_attention": partial(GlobalAttention2d, num_heads=h),
        "linear_attention": partial(LambdaLayer2d, **content),
        "local_attention": partial(LocalAttention2d, num_heads=h, window_size=r),
        "local_relation": partial(LocalRelation2d, window_size=r),
        "pairwise_attention": partial(VectorAttention2d, relation="pairwise", window_size=r),
        "patchwise_attention": partial(VectorAttention2d, relation="patchwise", window_size=r),
        "relative_attention": partial(GlobalAttention2d, feature_size=size, num_heads=h),
    }
    assert config.mixer is not None
    return layers[config.mixer](width, stride=stride)


def _size_at(config: "ResNetConfig", stage: str, stride: int) -> tuple[int, int]:
    """The map a layer reads at the config's `image_size`; its own pool stands behind it."""
    entering, leaving = config.map_sizes(stage)
    return entering if stride > 1 else leaving
