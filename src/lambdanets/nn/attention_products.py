"""The products inside attention layers as modules, whose only parameters are positions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import check_positive
from lambdanets.functional.attention.full import axial_attention, global_attention
from lambdanets.functional.attention.linear import linear_attention
from lambdanets.functional.attention.local import local_attention, local_relation, vector_attention
from lambdanets.functional.relative_position import resize_table


class AttentionProduct(nn.Module):
    """What queries, keys and values become.

    Attributes:
        impl: Implementation of its function.
    """

    def __init__(self, impl: str) -> None:
        super().__init__()
        self.impl = impl

    def reach(self, size: tuple[int, ...]) -> int:
        """Context elements each query reads."""
        return math.prod(size)


class GlobalProduct(AttentionProduct):
    """`global_attention`, with one table for the rows and one for the columns, or without positions.

    Args:
        query_depth: k.
        feature_size: Map the tables are sized for; larger ones interpolate them. None for no positions.
        impl: Implementation of `global_attention`.
    """

    def __init__(self, query_depth: int, feature_size: tuple[int, int] | None, impl: str = "auto") -> None:
        super().__init__(impl)
        self.rows, self.columns = None, None
        if feature_size is not None:
            self.rows, self.columns = (make_table(query_depth, 2 * length - 1) for length in feature_size)

    def forward(
        self,
        queries: Float[Tensor, "b h k height width"],
        keys: Float[Tensor, "b h k height width"],
        values: Float[Tensor, "b h v height width"],
    ) -> Float[Tensor, "b h v height width"]:
        """Weigh the whole map for each query."""
        tables = None
        if self.rows is not None and self.columns is not None:
            height, width = queries.shape[3:]
            tables = [table_for(self.rows, height), table_for(self.columns, width)]
        return global_attention(queries, keys, values, tables, impl=self.impl)


class LineProduct(AttentionProduct):
    """`axial_attention` along one axis, with its table.

    Args:
        query_depth: k.
        axis: 0 within columns, 1 within rows.
        length: Line the table is sized for; longer ones interpolate it.
        impl: Implementation of `axial_attention`.
    """

    def __init__(self, query_depth: int, axis: int, length: int, impl: str = "auto") -> None:
        super().__init__(impl)
        self.axis = axis
        self.table = make_table(query_depth, 2 * length - 1)

    def reach(self, size: tuple[int, ...]) -> int:
        """The line."""
        return size[self.axis]

    def forward(
        self,
        queries: Float[Tensor, "b h k height width"],
        keys: Float[Tensor, "b h k height width"],
        values: Float[Tensor, "b h v height width"],
    ) -> Float[Tensor, "b h v height width"]:
        """Weigh the line through each query."""
        table = table_for(self.table, queries.shape[3 + self.axis])
        return axial_attention(queries, keys, values, table, axis=self.axis, impl=self.impl)


class WindowProduct(AttentionProduct):
    """`local_attention`, with rows and columns each in a half of the depth.

    Args:
        query_depth: k, at least 2.
        window_size: Side of the window.
        impl: Implementation of `local_attention`.
    """

    def __init__(self, query_depth: int, window_size: int, impl: str = "auto") -> None:
        super().__init__(impl)
        self.window_size = window_size
        self.rows = make_table(query_depth - query_depth // 2, window_size)
        self.columns = make_table(query_depth // 2, window_size)

    def reach(self, size: tuple[int, ...]) -> int:
        """The window, no larger than the map."""
        return math.prod(min(self.window_size, length) for length in size)

    def forward(
        self,
        queries: Float[Tensor, "b h k height width"],
        keys: Float[Tensor, "b h k height width"],
        values: Float[Tensor, "b h v height width"],
    ) -> Float[Tensor, "b h v height width"]:
        """Weigh the window around each query."""
        above, below = len(self.rows), len(self.columns)
        tables = [
            nn.functional.pad(self.rows, (0, 0, 0, below)),
            nn.functional.pad(self.columns, (0, 0, above, 0)),
        ]
        window = self.window_size
        return local_attention(queries, keys, values, tables, window_size=window, impl=self.impl)


class RelationProduct(AttentionProduct):
    """`local_relation`, with the prior of the layer's network.

    Args:
        window_size: Side of the window.
        impl: Implementation of `local_relation`.
    """

    def __init__(self, window_size: int, impl: str = "auto") -> None:
        super().__init__(impl)
        self.window_size = window_size

    def reach(self, size: tuple[int, ...]) -> int:
        """The window, no larger than the map."""
        return math.prod(min(self.window_size, length) for length in size)

    def forward(
        self,
        queries: Float[Tensor, "b h k height width"],
        keys: Float[Tensor, "b h k height width"],
        values: Float[Tensor, "b h v height width"],
        prior: Float[Tensor, "h r r"],
    ) -> Float[Tensor, "b h v height width"]:
        """Weigh the window around each query by appearance and geometry."""
        return local_relation(queries, keys, values, prior, impl=self.impl)


class WindowSum(AttentionProduct):
    """`vector_attention`, with the weights of the layer's network.

    Args:
        window_size: Side of the window.
        normalize: Take a softmax of the weights.
        impl: Implementation of `vector_attention`.
    """

    def __init__(self, window_size: int, normalize: bool, impl: str = "auto") -> None:
        super().__init__(impl)
        self.window_size, self.normalize = window_size, normalize

    def reach(self, size: tuple[int, ...]) -> int:
        """The window, no larger than the map."""
        return math.prod(min(self.window_size, length) for length in size)

    def forward(
        self, weights: Float[Tensor, "b h r height width"], values: Float[Tensor, "b h v height width"]
    ) -> Float[Tensor, "b h v height width"]:
        """Sum the window around each position."""
        return vector_attention(
            weights, values, window_size=self.window_size, normalize=self.normalize, impl=self.impl
        )


class LinearProduct(AttentionProduct):
    """`linear_attention`.

    Args:
        impl: Implementation of `content_output`.
    """

    def forward(
        self,
        queries: Float[Tensor, "b h k height width"],
        keys: Float[Tensor, "b h k height width"],
        values: Float[Tensor, "b h v height width"],
    ) -> Float[Tensor, "b h v height width"]:
        """Summarise the map for each head, and read the summary by each query."""
        return linear_attention(queries, keys, values, impl=self.impl)


def make_table(depth: int, side: int) -> nn.Parameter:
    """One embedding for each offset along an axis, with a deviation of k^-1/2."""
    check_positive("make_table", depth=depth, side=side)
    return nn.Parameter(torch.randn(depth, side) * depth**-0.5)


def table_for(table: Float[Tensor, "k r"], length: int) -> Float[Tensor, "k _"]:
    """A table that has every offset of a line: longer ones than it was made for interpolate it."""
    return resize_table(table.unsqueeze(0), (max(table.shape[1], 2 * length - 1),))[0]
