"""What stands where the 3×3 convolution stood: a letter of the stage pattern, the name of an attention."""

from torch import nn

from lambdanets.models.config import ResNetConfig
from lambdanets.nn.attention import (
    AugmentedConvolution2d,
    AxialAttention2d,
    GlobalAttention2d,
    LinearAttention2d,
)
from lambdanets.nn.lambda_layer import LambdaLayer2d
from lambdanets.nn.local_attention import LocalAttention2d, LocalRelation2d, Relation, VectorAttention2d
from lambdanets.nn.position import RelativePosition


def make_mixer(
    letter: str,
    config: ResNetConfig,
    stage: str,
    width: int,
    stride: int,
    position: RelativePosition | None,
) -> nn.Module:
    """A convolution, a lambda layer or an attention."""
    entering, leaving = config.map_sizes(stage)
    match letter:
        case "C":
            return nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        case "L":
            return _make_lambda(config, width, stride, entering if stride > 1 else leaving, position)
        case "A" if config.mixer == "augmented_convolution":
            heads = config.attention_heads
            return AugmentedConvolution2d(width, num_heads=heads, feature_size=leaving, stride=stride)
        case "A":
            return _make_attention(config, width, stride, entering if stride > 1 else leaving)
        case _:
            raise AssertionError(f"ResNetConfig let the letter {letter!r} through")


def _make_lambda(
    config: ResNetConfig,
    width: int,
    stride: int,
    size: tuple[int, int],
    position: RelativePosition | None,
    positional: bool = True,
) -> LambdaLayer2d:
    return LambdaLayer2d(
        width,
        query_depth=config.query_depth,
        num_heads=config.num_heads,
        intra_depth=config.intra_depth,
        scope_size=config.scope_size,
        feature_size=size,
        content=config.content,
        positional=config.positional and positional,
        position=position,
        stride=stride,
        key_normalization=config.key_normalization,
        normalization=config.normalization,
        initialization=config.initialization,
    )


def _make_attention(config: ResNetConfig, width: int, stride: int, size: tuple[int, int]) -> nn.Module:
    h, r = config.attention_heads, config.attention_window
    match config.mixer:
        case "global_attention":
            return GlobalAttention2d(width, num_heads=h, stride=stride)
        case "relative_attention":
            return GlobalAttention2d(width, num_heads=h, feature_size=size, stride=stride)
        case "axial_attention":
            return AxialAttention2d(width, num_heads=h, feature_size=size, stride=stride)
        case "local_attention":
            return LocalAttention2d(width, num_heads=h, window_size=r, stride=stride)
        case "local_relation":
            return LocalRelation2d(width, window_size=r, stride=stride)
        case "pairwise_attention" | "patchwise_attention":
            relation: Relation = "pairwise" if config.mixer == "pairwise_attention" else "patchwise"
            return VectorAttention2d(width, relation=relation, window_size=r, stride=stride)
        case "efficient_attention":
            return LinearAttention2d(width, num_heads=h, stride=stride)
        case "double_attention":
            return LinearAttention2d(width, num_heads=1, query_depth=max(1, width // 2), stride=stride)
        case "linear_attention":
            return _make_lambda(config, width, stride, size, None, positional=False)
        case _:
            raise AssertionError(f"ResNetConfig let the mixer {config.mixer!r} through")
