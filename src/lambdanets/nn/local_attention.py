"""Attention layers for windows of maps: stand-alone, local relation, and vector attention."""

from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, check_choice, check_positive
from lambdanets.functional._layout import outside_autocast
from lambdanets.functional.attention.local import (
    local_attention,
    local_relation,
    vector_attention,
    window_sides,
    window_values,
)
from lambdanets.nn.attention import (
    AttentionProduct,
    Keys,
    ProjectedAttention2d,
    Values,
    check_attention,
    depth_of,
    make_pool,
    make_table,
)
from lambdanets.nn.children import as_one_node, bind_inputs, is_symbolic, plain_weight

Relation = Literal["pairwise", "patchwise"]

RELATIONS: Final[tuple[Relation, ...]] = ("pairwise", "patchwise")


class WindowProduct(AttentionProduct):
    """`local_attention`, with rows and columns each in a half of the depth."""

    def __init__(self, query_depth: int, window_size: int, impl: str) -> None:
        super().__init__(impl)
        self.window_size = window_size
        self.rows = make_table(query_depth - query_depth // 2, window_size)
        self.columns = make_table(query_depth // 2, window_size)

    def forward(self, queries: Keys, keys: Keys, values: Values) -> Values:
        """Weigh the window around each query."""
        rows = nn.functional.pad(self.rows, (0, 0, 0, len(self.columns)))
        columns = nn.functional.pad(self.columns, (0, 0, len(self.rows), 0))
        tables, window = [rows, columns], self.window_size
        return local_attention(queries, keys, values, tables, window_size=window, impl=self.impl)


class LocalAttention2d(ProjectedAttention2d):
    """Ramachandran's (2019) stand-alone self-attention: a window for each query, relative rows and columns.

    yₙ = Σₘ softmaxₘ(qₙ·(kₘ + [R_rows[m - n], R_columns[m - n]]) / √k) vₘ over the window, each table in
    a half of the depth and shared by the heads. Time b·h·n·|window|·k. Arguments not listed are those of
    `GlobalAttention2d`.

    Paper: §2; Tables 3 and 4 (local self-attention).
    Departs: the published window is padded with zeros; here the softmax is over what is on the map, and the
        stride is that of the paper's lambda layers.

    Args:
        query_depth: k, at least 2; out_channels / h by default.
        window_size: Side of the window; odd.
        impl: Implementation of `local_attention`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> LocalAttention2d(64, stride=2)(torch.ones(1, 64, 5, 9)).shape
        torch.Size([1, 64, 3, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        num_heads: int = 8,
        query_depth: int | None = None,
        window_size: int = 7,
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        who, d = "LocalAttention2d", in_channels if out_channels is None else out_channels
        k = depth_of(who, in_channels, d, num_heads, query_depth, stride)
        window_sides(who, window_size, 2)
        if k < 2:
            raise ArgumentError(f"{who}: query_depth must be at least 2, a half for each axis, got {k}.")
        super().__init__(in_channels, d, num_heads, k, WindowProduct(k, window_size, impl), stride)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Project, weigh the windows, concatenate the heads, pool."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        bind_inputs("LocalAttention2d", "inputs", inputs, plain_weight(self.to_queries))
        return super().forward(inputs)


class RelationProduct(AttentionProduct):
    """`local_relation`, with the prior of the layer's network."""

    def __init__(self, window_size: int, impl: str) -> None:
        super().__init__(impl)
        self.window_size = window_size

    def forward(self, queries: Keys, keys: Keys, values: Values, prior: Float[Tensor, "h r r"]) -> Values:
        """Weigh the window around each query by appearance and geometry."""
        return local_relation(queries, keys, values, prior, impl=self.impl)


class LocalRelation2d(ProjectedAttention2d):
    """Hu's (2019) local relation: windows weighed by how pixels look together and by a learned geometry.

    yₙ = Σₘ softmaxₘ(-(qₙ - kₘ)² + g(m - n)) vₘ, with numbers for queries and keys, one for each group of
    `shared_channels`, and g a network of the offset: two layers with a ReLU between. Arguments not listed
    are those of `GlobalAttention2d`.

    Paper: Table 3 (local relation).

    Args:
        shared_channels: Channels that share a weight; the last group may have fewer.
        window_size: Side of the window; odd.
        impl: Implementation of `local_relation`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> LocalRelation2d(20)(torch.ones(1, 20, 5, 9)).shape
        torch.Size([1, 20, 5, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        shared_channels: int = 8,
        window_size: int = 7,
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        who, d = "LocalRelation2d", in_channels if out_channels is None else out_channels
        check_attention(who, in_channels, d, 1, 1, stride)
        check_positive(who, shared_channels=shared_channels)
        window_sides(who, window_size, 2)
        groups = -(-d // shared_channels)
        super().__init__(in_channels, d, groups, 1, RelationProduct(window_size, impl), stride)
        self.shared_channels, self.window_size = shared_channels, window_size
        self.geometry = nn.Sequential(nn.Conv2d(2, groups, 1), nn.ReLU(), nn.Conv2d(groups, groups, 1))

    def prior(self, like: Float[Tensor, "b d height width"]) -> Float[Tensor, "h r r"]:
        """g of every offset, in halves of the window; of the type and on the device of the inputs."""
        first = next(self.geometry.children(), self.geometry)
        bind_inputs("LocalRelation2d", "like", like, plain_weight(first))
        return self.geometry(_coordinates((self.window_size,) * 2, like))[0]

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Compare, weigh, pool."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        bind_inputs("LocalRelation2d", "inputs", inputs, plain_weight(self.to_queries))
        queries, keys = (one(inputs).unsqueeze(2) for one in (self.to_queries, self.to_keys))
        values = self.to_values(inputs)
        missing = -values.shape[1] % self.shared_channels
        groups = nn.functional.pad(values, (0, 0, 0, 0, 0, missing)).unflatten(1, (-1, self.shared_channels))
        output = self.product(queries, keys, groups, self.prior(inputs)).flatten(1, 2)
        return self.pool(output[:, : values.shape[1]])


class WindowSum(AttentionProduct):
    """`vector_attention`, with the weights of the layer's network."""

    def __init__(self, window_size: int, normalize: bool, impl: str) -> None:
        super().__init__(impl)
        self.window_size, self.normalize = window_size, normalize

    def forward(self, weights: Float[Tensor, "b h r height width"], values: Values) -> Values:
        """Sum the window around each position."""
        size, normalize = self.window_size, self.normalize
        return vector_attention(weights, values, window_size=size, normalize=normalize, impl=self.impl)


class VectorAttention2d(nn.Module):
    """Zhao's (2020) self-attention: a weight for each group of channels, by a network of pairs or of patches.

    Pairwise: wₘₙ = γ([φ(xₙ) - ψ(xₘ), pₙ - pₘ]) and a softmax over the window, p learned from the coordinates.
    Patchwise: all weights of a window at once, γ([φ(xₙ), ψ(xₘ) of all m in it]), and no softmax. γ is norm,
    ReLU and 1×1 convolution, twice.

    Paper: Table 3 (self-attention networks; its row is the patchwise one).
    Departs: published maps are reflected at their borders; here nothing stands outside of them.

    Args:
        in_channels: d of the inputs.
        out_channels: d of the outputs; as `in_channels` by default. A multiple of `shared_channels`.
        relation: `"pairwise"` or `"patchwise"`.
        relation_channels: Channels of φ and ψ; a quarter of `out_channels` by default.
        shared_channels: Channels that share a weight.
        window_size: Side of the window; odd.
        stride: 2 adds a 3×3 average pool behind.
        impl: Implementation of `vector_attention`.

    Raises:
        ArgumentError: Sizes or choices that do not fit together.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.

    Example:
        >>> VectorAttention2d(16, window_size=3)(torch.ones(1, 16, 5, 9)).shape
        torch.Size([1, 16, 5, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        relation: Relation = "pairwise",
        relation_channels: int | None = None,
        shared_channels: int = 8,
        window_size: int = 7,
        stride: int = 1,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        who, d = "VectorAttention2d", in_channels if out_channels is None else out_channels
        check_attention(who, in_channels, d, 1, 1, stride)
        check_choice(who, "relation", relation, RELATIONS)
        e = max(1, d // 4) if relation_channels is None else relation_channels
        check_positive(who, relation_channels=e, shared_channels=shared_channels)
        window_sides(who, window_size, 2)
        if d % shared_channels:
            raise ArgumentError(
                f"{who}: out_channels must be divisible by shared_channels, got {d} and {shared_channels}."
            )
        self.relation: Relation = relation
        self.window_size, self.num_groups = window_size, d // shared_channels
        self.to_queries, self.to_keys = nn.Conv2d(in_channels, e, 1), nn.Conv2d(in_channels, e, 1)
        self.to_values = nn.Conv2d(in_channels, d, 1)
        window = window_size**2
        pairwise = relation == "pairwise"
        self.to_places = nn.Conv2d(2, 2, 1) if pairwise else None
        read, hidden = (e + 2, e) if pairwise else (e * (window + 1), self.num_groups)
        self.to_weights = nn.Sequential(
            nn.BatchNorm2d(read),
            nn.ReLU(),
            nn.Conv2d(read, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, self.num_groups * (1 if pairwise else window), 1),
        )
        self.product = WindowSum(window_size, pairwise, impl)
        self.pool = make_pool(stride)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b out _ _"]:
        """Weights of every window, then its sum."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        bind_inputs("VectorAttention2d", "inputs", inputs, plain_weight(self.to_queries))
        if self.to_places is None:
            patches = window_values(self.to_keys(inputs), self.window_size).flatten(1, 2)
            weights = self.to_weights(torch.cat([self.to_queries(inputs), patches], dim=1))
            weights = weights.unflatten(1, (self.num_groups, -1))  # b h r height width
        else:
            queries, keys = self.to_queries(inputs), self.to_keys(inputs)
            places = self.to_places(_coordinates(inputs.shape[2:], queries))
            places = places.expand(inputs.shape[0], -1, -1, -1)  # b 2 height width
            queries, keys = torch.cat([queries, places], 1), torch.cat([keys, places], 1)
            pairs = queries.unsqueeze(2) - window_values(keys, self.window_size)  # b e+2 r height width
            weights = self.to_weights(pairs.flatten(3)).unflatten(3, inputs.shape[2:])
        values = self.to_values(inputs).unflatten(1, (self.num_groups, -1))
        return self.pool(self.product(weights, values).flatten(1, 2))


def _coordinates(size: tuple[int, ...], like: Tensor) -> Float[Tensor, "1 2 height width"]:
    """The row and the column of each place of a map, each from -1 to 1."""
    sides = (torch.linspace(-1, 1, side, dtype=like.dtype, device=like.device) for side in size)
    with outside_autocast(like):
        return torch.stack(torch.meshgrid(*sides, indexing="ij")).unsqueeze(0)
