"""Mixers: what stands where a bottleneck's 3×3 convolution stood, by a letter of the stage pattern.

A further attention is a name of `MixerName` and a line of `make_mixer`. Configs read the names; torch is
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
    """A convolution (C), a lambda layer (L), which may share a position module, or an attention (A)."""
    from torch import nn

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

    if letter == "C":
        return nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
    entering, pooled_size = config.map_sizes(stage)
    # A layer's own pool stands behind it.
    size = entering if stride > 1 else pooled_size
    options = asdict(config.lambda_layer)
    if letter == "L":
        return LambdaLayer2d(width, feature_size=size, position=position, stride=stride, **options)
    h, r = config.attention_heads, config.attention_window
    options["positional"] = False
    layers: dict[MixerName, Callable[..., nn.Module]] = {
        "augmented_convolution": partial(AugmentedConvolution2d, feature_size=pooled_size, num_heads=h),
        "axial_attention": partial(AxialAttention2d, feature_size=size, num_heads=h),
        "double_attention": partial(LinearAttention2d, num_heads=1, query_depth=max(1, width // 2)),
        "efficient_attention": partial(LinearAttention2d, num_heads=h),
        "global_attention": partial(GlobalAttention2d, num_heads=h),
        "linear_attention": partial(LambdaLayer2d, **options),
        "local_attention": partial(LocalAttention2d, num_heads=h, window_size=r),
        "local_relation": partial(LocalRelation2d, window_size=r),
        "pairwise_attention": partial(VectorAttention2d, relation="pairwise", window_size=r),
        "patchwise_attention": partial(VectorAttention2d, relation="patchwise", window_size=r),
        "relative_attention": partial(GlobalAttention2d, feature_size=size, num_heads=h),
    }
    assert config.mixer is not None
    return layers[config.mixer](width, stride=stride)
