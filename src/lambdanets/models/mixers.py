"""Mixers: what stands where a bottleneck's 3×3 convolution stood, by a letter of the stage pattern.

A further attention is a name of `MixerName` and a line of `make_mixer`. Configs read the names; torch is
imported when a layer is made.

A factory of the user's own is called once for each block, in the order of the network:
`mixer(channels, stride=…, feature_size=…, stage=…, block=…, position=…)`. It gives a module that maps
"b channels height width" to as many channels and sides of ⌈size / stride⌉, and keeps its initialisation.
`feature_size` is the height and width of the map it reads at the config's `image_size`, `stage` is c2 to c5,
`block` counts from 1, and `position` is the stage's `RelativePosition` where the config shares it, else None.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from lambdanets.errors import ArgumentError
from lambdanets.models.references import resolve

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
    block: int,
    width: int,
    stride: int,
    position: "RelativePosition | None" = None,
) -> "nn.Module":
    """A convolution (C), a lambda layer (L), which may share a position module, or the config's mixer (A)."""
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
    options = config.lambda_layer.options()
    if letter == "L":
        return LambdaLayer2d(width, feature_size=size, position=position, stride=stride, **options)
    if config.has_own_mixer:
        given = {"stride": stride, "feature_size": size, "stage": stage, "block": block, "position": position}
        return _make_own(config.mixer, width, given)
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
    name: Any = config.mixer
    return layers[name](width, stride=stride)


def _make_own(mixer: object, channels: int, given: dict[str, Any]) -> "nn.Module":
    """Call a factory of the user's own."""
    from torch import nn

    from lambdanets.functional._keys import normalization_name, takes

    factory = resolve("ResNetConfig", "mixer", mixer)
    if not takes(factory, channels, **given):
        raise ArgumentError(
            f"ResNetConfig: mixer must take channels and the keywords {', '.join(given)}, got "
            f"{normalization_name(factory)}. It may take those it does not need as **others."
        )
    made = factory(channels, **given)
    if not isinstance(made, nn.Module):
        raise ArgumentError(
            f"ResNetConfig: mixer must make a torch.nn.Module, got a {type(made).__name__} from "
            f"{normalization_name(factory)}."
        )
    return made
