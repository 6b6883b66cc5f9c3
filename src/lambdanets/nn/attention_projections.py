"""Queries, keys and values of a map for any attention, and what attention layers share."""

from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, check_positive
from lambdanets.nn.attention_products import AttentionProduct


class ProjectedAttention2d(nn.Module):
    """Queries, keys and values by 1×1 convolutions, a product of them, and the paper's pool.

    Paper: §2, §C.4.

    Args:
        in_channels: d of the inputs.
        out_channels: d of the outputs; a multiple of `num_heads`.
        num_heads: h; each head has its own queries, keys and values.
        query_depth: k.
        product: What becomes of them.
        stride: 2 adds a 3×3 average pool behind, as in a lambda layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_heads: int,
        query_depth: int,
        product: AttentionProduct,
        stride: int = 1,
    ) -> None:
        super().__init__()
        check_attention(type(self).__name__, in_channels, out_channels, num_heads, query_depth, stride)
        self.num_heads = num_heads
        self.to_queries = nn.Conv2d(in_channels, num_heads * query_depth, 1, bias=False)
        self.to_keys = nn.Conv2d(in_channels, num_heads * query_depth, 1, bias=False)
        self.to_values = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        for projection in (self.to_queries, self.to_keys, self.to_values):
            nn.init.normal_(projection.weight, std=in_channels**-0.5)
        self.product = product
        self.pool = make_pool(stride)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Project, weigh, concatenate the heads, pool."""
        projections = (self.to_queries, self.to_keys, self.to_values)
        heads = [one(inputs).unflatten(1, (self.num_heads, -1)) for one in projections]
        return self.pool(self.product(*heads).flatten(1, 2))


def make_pool(stride: int) -> nn.Module:
    """The pool of a lambda layer, which stands behind the layer.

    Paper: §4.
    """
    return nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False) if stride == 2 else nn.Identity()


def depth_of(who: str, d: int, out_channels: int, num_heads: int, query_depth: int | None) -> int:
    """k: what was asked for, or that of the values."""
    check_attention(who, d, out_channels, num_heads, 1 if query_depth is None else query_depth, 1)
    return out_channels // num_heads if query_depth is None else query_depth


def check_attention(who: str, d: int, out_channels: int, h: int, k: int, stride: int) -> None:
    """Raise unless the sizes are positive, the heads share the channels and the stride is 1 or 2."""
    check_positive(who, in_channels=d, out_channels=out_channels, num_heads=h, query_depth=k)
    if out_channels % h:
        raise ArgumentError(
            f"{who}: out_channels must be divisible by num_heads, got {out_channels} and {h}."
        )
    if stride not in (1, 2):
        raise ArgumentError(f"{who}: stride must be 1 or 2, got {stride}.")
