"""Layers of the same width to compare with: attention by FlexAttention and by torch's fused product."""

from collections.abc import Callable
from typing import Any

import torch
from problems import NUM_HEADS, Shape
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

# How names of layers with a bias end.
BIAS = ", bias"


class AttentionLayer(nn.Module):
    """Softmax attention with as many heads as the lambda layer and one bias for each offset and head.

    It is not the lambda layer's function: a neighbour in a network, at the same width and scope.

    Args:
        shape: Map, channels and scope.
        attend: The layer, its queries, keys and values "b h n d" to the output.
        bias: Whether there is one.
    """

    def __init__(self, shape: Shape, attend: Callable[..., Tensor], *, bias: bool) -> None:
        super().__init__()
        self.shape, self.attend = shape, attend
        self.project = nn.Conv2d(shape.channels, 3 * shape.channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(3 * shape.channels)
        side = shape.table_side
        self.table = nn.Parameter(0.1 * torch.randn(NUM_HEADS, side, side)) if bias else None
        self.mask: Any = None

    def forward(self, images: Tensor) -> Tensor:
        """Project, attend, and put the heads beside each other."""
        # As it lies where channels are last; compiled flex_attention is wrong on a CPU in another order.
        projected = self.norm(self.project(images)).flatten(2).transpose(1, 2).contiguous()  # b n 3d
        parts = projected.unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)  # 3 b h n d/h
        output = self.attend(self, *parts.unbind(0))  # b h n d/h
        return output.permute(0, 1, 3, 2).reshape(images.shape)


def by_fused_product(layer: AttentionLayer, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The whole map, no bias."""
    return scaled_dot_product_attention(queries, keys, values)


def by_fused_product_with_bias(
    layer: AttentionLayer, queries: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """The bias of all pairs written out; minus infinity outside the scope."""
    side, reach = layer.shape.side, layer.shape.table_side // 2
    places = torch.arange(side, device=queries.device)
    offsets = places[None, :] - places[:, None]
    index, inside = offsets.clamp(-reach, reach) + reach, offsets.abs() <= reach
    bias = layer.table[:, index[:, None, :, None], index[None, :, None, :]]  # h y x y x
    both = inside[:, None, :, None] & inside[None, :, None, :]
    bias = bias.masked_fill(~both, -torch.inf).reshape(1, NUM_HEADS, side**2, side**2)
    return scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(queries.dtype))


def by_flex_attention(layer: AttentionLayer, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The bias read for each pair; blocks of pairs that are all out of scope are left out."""
    from torch.nn.attention.flex_attention import flex_attention

    side, reach, table = layer.shape.side, layer.shape.table_side // 2, layer.table

    def score(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = key // side - query // side + reach
        column = key % side - query % side + reach
        inside = 2 * reach
        return score + table[h, row.clamp(0, inside), column.clamp(0, inside)]

    return flex_attention(
        queries, keys, values, score_mod=None if table is None else score, block_mask=layer.mask
    )


def flex_mask(shape: Shape, device: torch.device) -> Any:
    """Which blocks of pairs have a pair in scope; None for a global context."""
    from torch.nn.attention.flex_attention import create_block_mask

    side, reach = shape.side, shape.table_side // 2
    if shape.scope is None:
        return None

    def is_near(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        rows = (key // side - query // side).abs() <= reach
        return rows & ((key % side - query % side).abs() <= reach)

    return create_block_mask(is_near, None, None, side**2, side**2, device=device.type)


def attention_layers(shape: Shape, device: torch.device) -> dict[str, Callable[[], nn.Module]]:
    """By name; each is made when it is asked for, as some may fail."""

    def flex() -> nn.Module:
        layer = AttentionLayer(shape, by_flex_attention, bias=True)
        layer.mask = flex_mask(shape, device)
        return layer

    window = "global" if shape.scope is None else f"{shape.scope}x{shape.scope}"
    return {
        f"fused {window}{BIAS}": lambda: AttentionLayer(shape, by_fused_product_with_bias, bias=True),
        "fused global": lambda: AttentionLayer(shape, by_fused_product, bias=False),
        f"flex {window}{BIAS}": flex,
    }
