"""Attention layers for maps: global, axial, linear, and attention beside a convolution."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, check_positive
from lambdanets.functional.attention.full import axial_attention, global_attention, linear_attention
from lambdanets.functional.relative_position import resize_table
from lambdanets.nn.children import as_one_node, bind_inputs, is_symbolic, plain_weight

# Queries and keys, and values, by head.
Keys = Float[Tensor, "b h k height width"]
Values = Float[Tensor, "b h v height width"]

# Depth of a head's keys in attention-augmented convolutions, however few channels these have.
_SMALLEST_DEPTH = 20


class ProjectedAttention2d(nn.Module):
    """Queries, keys and values of each head by 1×1 convolutions, a product of them, and the paper's pool."""

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
            self.rows, self.columns = (make_table(query_depth, 2 * length - 1) for length in feature_size)

    def forward(self, queries: Keys, keys: Keys, values: Values) -> Values:
        """Weigh the whole map for each query."""
        tables = None
        if self.rows is not None and self.columns is not None:
            height, width = queries.shape[3:]
            tables = [_table_for(self.rows, height), _table_for(self.columns, width)]
        return global_attention(queries, keys, values, tables, impl=self.impl)


class GlobalAttention2d(ProjectedAttention2d):
    """Self-attention over the whole map, with Bello's (2019) relative positions or without any.

    yₙ = Σₘ softmaxₘ(qₙ·(kₘ + R_rows[m - n] + R_columns[m - n]) / √k) vₘ for each head. The tables are
    shared by the heads. Time and memory of the logits b·h·n².

    Paper: §2; Table 4 (global self-attention).

    Args:
        in_channels: d of the inputs.
        out_channels: d of the outputs; as `in_channels` by default.
        num_heads: h.
        query_depth: k; out_channels / h by default.
        feature_size: Map the tables are sized for; they fit others. None for no positions.
        stride: 2 adds a 3×3 average pool behind.
        impl: Implementation of `global_attention`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> GlobalAttention2d(64, feature_size=(7, 7), stride=2)(torch.ones(1, 64, 5, 9)).shape
        torch.Size([1, 64, 3, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 8,
        query_depth: int | None = None,
        feature_size: tuple[int, int] | None = None,
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        out_channels = in_channels if out_channels is None else out_channels
        k = depth_of("GlobalAttention2d", in_channels, out_channels, num_heads, query_depth, stride)
        product = GlobalProduct(k, feature_size, impl)
        super().__init__(in_channels, out_channels, num_heads, k, product, stride)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Project, weigh the map, concatenate the heads, pool."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        bind_inputs("GlobalAttention2d", "inputs", inputs, plain_weight(self.to_queries))
        return super().forward(inputs)


class LineProduct(AttentionProduct):
    """`axial_attention` within columns (axis 0) or rows (axis 1), with a table for lines of a length."""

    def __init__(self, query_depth: int, axis: int, length: int, impl: str) -> None:
        super().__init__(impl)
        self.axis = axis
        self.table = make_table(query_depth, 2 * length - 1)

    def forward(self, queries: Keys, keys: Keys, values: Values) -> Values:
        """Weigh the line through each query."""
        table = _table_for(self.table, queries.shape[3 + self.axis])
        return axial_attention(queries, keys, values, table, axis=self.axis, impl=self.impl)


class AxialAttention2d(nn.Module):
    """Attention within rows, then within columns, each with its own projections and relative positions.

    Every position reaches every other in two steps. Time b·h·n·√n on square maps. The arguments are those of
    `GlobalAttention2d`; positions are never left out.

    Paper: §2; Table 4 (axial self-attention).

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> AxialAttention2d(64, feature_size=(7, 7))(torch.ones(1, 64, 5, 9)).shape
        torch.Size([1, 64, 5, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 8,
        query_depth: int | None = None,
        feature_size: tuple[int, int],
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        d = in_channels if out_channels is None else out_channels
        k = depth_of("AxialAttention2d", in_channels, d, num_heads, query_depth, stride)
        height, width = feature_size
        within_rows, within_columns = LineProduct(k, 1, width, impl), LineProduct(k, 0, height, impl)
        self.rows = ProjectedAttention2d(in_channels, d, num_heads, k, within_rows)
        self.columns = ProjectedAttention2d(d, d, num_heads, k, within_columns, stride)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Rows, then columns."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        weight = plain_weight(getattr(self.rows, "to_queries", None))
        bind_inputs("AxialAttention2d", "inputs", inputs, weight)
        return self.columns(self.rows(inputs))


class LinearProduct(AttentionProduct):
    """`linear_attention`, which has no positions."""

    def forward(self, queries: Keys, keys: Keys, values: Values) -> Values:
        """Summarise the map for each head, and read the summary by each query."""
        return linear_attention(queries, keys, values, impl=self.impl)


class LinearAttention2d(nn.Module):
    """Shen's (2018) efficient attention, and with one head Chen's (2018) double attention.

    The softmax of keys over positions gathers features into one matrix for each head, the softmax of queries
    over channels distributes them; a 1×1 convolution brings them back to d. Time b·n·h·k·v. Arguments not
    listed are those of `GlobalAttention2d`.

    Paper: §2, §C.4; Table 3 (linear attention).

    Args:
        num_heads: h; 1 for double attention.
        query_depth: k; out_channels / h by default. Double attention's number of gathered features.
        value_depth: v; as k by default. Double attention's channels of a feature.
        impl: Implementation of `content_output`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> LinearAttention2d(64, num_heads=1, query_depth=32)(torch.ones(1, 64, 5, 9)).shape
        torch.Size([1, 64, 5, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 8,
        query_depth: int | None = None,
        value_depth: int | None = None,
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        d = in_channels if out_channels is None else out_channels
        k = depth_of("LinearAttention2d", in_channels, d, num_heads, query_depth, stride)
        value_depth = k if value_depth is None else value_depth
        check_positive("LinearAttention2d", value_depth=value_depth)
        v = num_heads * value_depth
        self.attention = ProjectedAttention2d(in_channels, v, num_heads, k, LinearProduct(impl), stride)
        self.to_outputs = nn.Conv2d(v, d, 1, bias=False)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Gather, distribute, project."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        weight = plain_weight(getattr(self.attention, "to_queries", None))
        bind_inputs("LinearAttention2d", "inputs", inputs, weight)
        return self.to_outputs(self.attention(inputs))


class AugmentedConvolution2d(nn.Module):
    """Bello's (2019) attention-augmented convolution: a 3×3 convolution with channels of attention beside it.

    The heads' outputs are mixed by a 1×1 convolution. With a stride the attention reads the pooled map.

    Paper: Table 3 (relative self-attention).

    Args:
        in_channels: d of the inputs.
        out_channels: d of the outputs, of which `value_ratio`, to the nearest multiple of h, are attention's.
        num_heads: h.
        key_ratio: Channels of all keys together, in parts of `out_channels`; k is at least 20.
        value_ratio: Channels of all values together, in parts of `out_channels`.
        feature_size: Map behind the stride that the tables are sized for; they fit others.
        stride: Stride of the convolution; 1 or 2.
        impl: Implementation of `global_attention`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> AugmentedConvolution2d(128, feature_size=(7, 7), stride=2)(torch.ones(1, 128, 5, 9)).shape
        torch.Size([1, 128, 3, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 8,
        key_ratio: float = 0.2,
        value_ratio: float = 0.1,
        feature_size: tuple[int, int],
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        d = in_channels if out_channels is None else out_channels
        check_attention("AugmentedConvolution2d", in_channels, d, 1, _SMALLEST_DEPTH, stride)
        check_positive("AugmentedConvolution2d", num_heads=num_heads)
        k = max(round(key_ratio * d / num_heads), _SMALLEST_DEPTH)
        v = num_heads * max(round(value_ratio * d / num_heads), 1)
        if v >= d:
            raise ArgumentError(
                f"AugmentedConvolution2d: out_channels must be more than the {v} of attention, got {d}. "
                "Fewer heads have fewer channels."
            )
        self.convolution = nn.Conv2d(in_channels, d - v, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")
        self.pool = make_pool(stride)
        product = GlobalProduct(k, feature_size, impl)
        self.attention = ProjectedAttention2d(in_channels, v, num_heads, k, product)
        self.to_outputs = nn.Conv2d(v, v, 1, bias=False)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """The convolution's channels, then the attention's."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        bind_inputs("AugmentedConvolution2d", "inputs", inputs, plain_weight(self.convolution))
        attended = self.to_outputs(self.attention(self.pool(inputs)))
        return torch.cat([self.convolution(inputs), attended], dim=1)


def make_table(depth: int, side: int) -> nn.Parameter:
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
