"""Parts of attention layers: the projections, what becomes of them, tables of positions, pool and checks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, check_positive
from lambdanets.functional.attention.full import axial_attention, global_attention, linear_attention
from lambdanets.functional.attention.local import local_attention, local_relation, vector_attention
from lambdanets.functional.relative_position import resize_table

# Queries and keys, and values, by head.
_Keys = Float[Tensor, "b h k height width"]
_Values = Float[Tensor, "b h v height width"]


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
        product: "AttentionProduct",
        stride: int = 1,
    ) -> None:
        super().__init__()
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


class AttentionProduct(nn.Module):
    """One of the attention functions as a module, whose only parameters are positions."""

    def __init__(self, impl: str) -> None:
        super().__init__()
        self.impl = impl


class GlobalProduct(AttentionProduct):
    """`global_attention`, with tables for the rows and columns of a map, or without positions."""

    def __init__(self, query_depth: int, feature_size: tuple[int, int] | None, impl: str) -> None:
        super().__init__(impl)
        self.rows, self.columns = None, None
        if feature_size is not None:
            self.rows, self.columns = (_make_table(query_depth, 2 * length - 1) for length in feature_size)

    def forward(self, queries: _Keys, keys: _Keys, values: _Values) -> _Values:
        """Weigh the whole map for each query."""
        tables = None
        if self.rows is not None and self.columns is not None:
            height, width = queries.shape[3:]
            tables = [_table_for(self.rows, height), _table_for(self.columns, width)]
        return global_attention(queries, keys, values, tables, impl=self.impl)


class LineProduct(AttentionProduct):
    """`axial_attention` within columns (axis 0) or rows (axis 1), with a table for lines of a length."""

    def __init__(self, query_depth: int, axis: int, length: int, impl: str) -> None:
        super().__init__(impl)
        self.axis = axis
        self.table = _make_table(query_depth, 2 * length - 1)

    def forward(self, queries: _Keys, keys: _Keys, values: _Values) -> _Values:
        """Weigh the line through each query."""
        table = _table_for(self.table, queries.shape[3 + self.axis])
        return axial_attention(queries, keys, values, table, axis=self.axis, impl=self.impl)


class LinearProduct(AttentionProduct):
    """`linear_attention`, which has no positions."""

    def forward(self, queries: _Keys, keys: _Keys, values: _Values) -> _Values:
        """Summarise the map for each head, and read the summary by each query."""
        return linear_attention(queries, keys, values, impl=self.impl)


class WindowProduct(AttentionProduct):
    """`local_attention`, with rows and columns each in a half of the depth."""

    def __init__(self, query_depth: int, window_size: int, impl: str) -> None:
        super().__init__(impl)
        self.window_size = window_size
        self.rows = _make_table(query_depth - query_depth // 2, window_size)
        self.columns = _make_table(query_depth // 2, window_size)

    def forward(self, queries: _Keys, keys: _Keys, values: _Values) -> _Values:
        """Weigh the window around each query."""
        rows = nn.functional.pad(self.rows, (0, 0, 0, len(self.columns)))
        columns = nn.functional.pad(self.columns, (0, 0, len(self.rows), 0))
        tables, window = [rows, columns], self.window_size
        return local_attention(queries, keys, values, tables, window_size=window, impl=self.impl)


class RelationProduct(AttentionProduct):
    """`local_relation`, with the prior of the layer's network."""

    def __init__(self, window_size: int, impl: str) -> None:
        super().__init__(impl)
        self.window_size = window_size

    def forward(self, queries: _Keys, keys: _Keys, values: _Values, prior: Float[Tensor, "h r r"]) -> _Values:
        """Weigh the window around each query by appearance and geometry."""
        return local_relation(queries, keys, values, prior, impl=self.impl)


class WindowSum(AttentionProduct):
    """`vector_attention`, with the weights of the layer's network."""

    def __init__(self, window_size: int, normalize: bool, impl: str) -> None:
        super().__init__(impl)
        self.window_size, self.normalize = window_size, normalize

    def forward(self, weights: Float[Tensor, "b h r height width"], values: _Values) -> _Values:
        """Sum the window around each position."""
        size, normalize = self.window_size, self.normalize
        return vector_attention(weights, values, window_size=size, normalize=normalize, impl=self.impl)


def _make_table(depth: int, side: int) -> nn.Parameter:
    """One embedding for each offset along an axis, with a standard deviation of k^-1/2."""
    check_positive("make_table", depth=depth, side=side)
    return nn.Parameter(torch.randn(depth, side) * depth**-0.5)


def _table_for(table: Float[Tensor, "k r"], length: int) -> Float[Tensor, "k _"]:
    """A table that has every offset of a line: longer ones than it was made for interpolate it."""
    return resize_table(table.unsqueeze(0), (max(table.shape[1], 2 * length - 1),))[0]


def make_pool(stride: int) -> nn.Module:
    """The pool of a lambda layer, which stands behind the layer."""
    return nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False) if stride == 2 else nn.Identity()


def depth_of(
    who: str, d: int, out_channels: int, num_heads: int, query_depth: int | None, stride: int
) -> int:
    """k as given, or that of the values; raise unless the arguments of a layer fit together."""
    check_attention(who, d, out_channels, num_heads, 1 if query_depth is None else query_depth, stride)
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
