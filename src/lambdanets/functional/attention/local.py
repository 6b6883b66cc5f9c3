"""`local_attention`, `local_relation`, `vector_attention`: with the window around each query."""

import math
from typing import Final, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_shape, bind_tensor, bind_type, check_choice
from lambdanets.functional._dispatch import Implementation, choose_again
from lambdanets.functional._layout import outside_autocast
from lambdanets.functional.attention import blocks, reference, shifts
from lambdanets.functional.attention.full import check_heads, describe
from lambdanets.functional.attention.logits import Tables, check_tables
from lambdanets.functional.relative_position import Size, check_scope

Appearance = Literal["squared_difference", "difference", "product"]

_ATTENTIONS: Final[tuple[Implementation, ...]] = (reference.ATTEND, blocks.IMPLEMENTATION)
RELATIONS: Final[tuple[Implementation, ...]] = (reference.RELATE, shifts.RELATE)
_AGGREGATIONS: Final[tuple[Implementation, ...]] = (reference.AGGREGATE, shifts.AGGREGATE)


def local_attention(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    tables: Tables | None = None,
    *,
    window_size: int | Size,
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Weigh the elements of the window around each query.

    As `global_attention`, with the softmax over the elements of the window that are on the map. Time
    b·h·n·|window|·(k + v); `"blocks"` computes a few times as much and keeps no matrix of pairs. Queries,
    keys and values are of one map.

    Paper: §2; Table 4 (local self-attention); Table 3 for stand-alone self-attention.

    Args:
        tables: For each axis one embedding for each offset along it, as in `global_attention`.
        window_size: Side of the window, or one for each axis; odd.
        impl: `"auto"`, `"blocks"` or `"reference"`. `"blocks"` has no second derivatives.

    Raises:
        ArgumentError: Shapes that do not fit, an even window, an unknown implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q = torch.ones(2, 4, 8, 7, 5)
        >>> local_attention(q, q, q, window_size=3).shape
        torch.Size([2, 4, 8, 7, 5])
    """
    who = "local_attention"
    sizes: Sizes = {}
    check_heads(who, queries, keys, values, sizes, "*size")
    check_tables(who, tables, queries.ndim - 3, sizes)
    window = window_sides(who, window_size, queries.ndim - 3)
    chosen = choose_again(_ATTENTIONS, describe(who, queries, keys, values, window), impl)
    with outside_autocast(queries):
        return chosen.run(queries, keys, values, tables, window)


def local_relation(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    prior: Float[Tensor, " h *scope"],
    *,
    appearance: Appearance = "squared_difference",
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Weigh the window around each position by how things look together and by where they stand.

    yₙ = Σₘ softmaxₘ(Φ(qₙ, kₘ) + g[m - n]) vₘ over the window of the prior g, where it is on the map. Each of
    the h groups of channels shares one weight for each pair; k is 1 in the published network.

    Paper: Table 3 (local relation).

    Args:
        queries: One query for each group and position.
        keys: One key for each group and position.
        values: The v channels of each group.
        prior: A logit for each group and offset; every side odd.
        appearance: Φ: `"squared_difference"` -|q - k|², `"difference"` -Σ|q - k| or `"product"` q·k.
        impl: `"auto"`, `"shifts"` or `"reference"`.

    Raises:
        ArgumentError: Shapes that do not fit, an even window, an unknown choice.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q, v = torch.ones(2, 4, 1, 7, 5), torch.ones(2, 4, 8, 7, 5)
        >>> local_relation(q, q, v, torch.zeros(4, 3, 3)).shape
        torch.Size([2, 4, 8, 7, 5])
    """
    who = "local_relation"
    sizes: Sizes = {}
    check_heads(who, queries, keys, values, sizes, "*size")
    bind_tensor(who, "prior", prior, "h *scope", sizes)
    window = tuple(prior.shape[1:])
    check_scope(who, window, queries.ndim - 3, "prior")
    check_choice(who, "appearance", appearance, get_args(Appearance))
    chosen = choose_again(RELATIONS, describe(who, queries, keys, values, window), impl)
    with outside_autocast(queries):
        return chosen.run(queries, keys, values, prior, appearance)


def vector_attention(
    weights: Float[Tensor, "b h r *size"],
    values: Float[Tensor, "b h v *size"],
    *,
    window_size: int | Size,
    normalize: bool = True,
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Sum the window around each position with weights of its own for each group of channels.

    yₙ = Σₘ w[m - n, n] vₘ, or with a softmax of w over the window where it is on the map. What gives the
    weights is the caller's: a network of pairs or of whole windows (`window_values`).

    Paper: Table 3 (self-attention networks).

    Args:
        weights: For each group, offset of the window (row by row) and position.
        values: The v channels of each group.
        window_size: Side of the window, or one for each axis; odd.
        normalize: Take a softmax of the weights.
        impl: `"auto"`, `"shifts"` or `"reference"`.

    Raises:
        ArgumentError: Shapes that do not fit, an even window, an unknown implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> vector_attention(torch.zeros(2, 4, 9, 7, 5), torch.ones(2, 4, 8, 7, 5), window_size=3).mean()
        tensor(1.)
    """
    who = "vector_attention"
    sizes: Sizes = {}
    bind_tensor(who, "values", values, "b h v *size", sizes)
    window = window_sides(who, window_size, values.ndim - 3)
    count = math.prod(window)
    bind_type(who, "weights", weights, sizes)
    if weights.ndim < 4 or weights.shape[2] != count:
        raise ArgumentError(
            f"{who}: weights must have shape (b, h, r, *size) with r={count}, one for each offset of the "
            f"window, got {tuple(weights.shape)}."
        )
    bind_shape(who, "weights", weights, "b h r *size", sizes)
    chosen = choose_again(_AGGREGATIONS, describe(who, weights[:, :, :1], values, values, window), impl)
    with outside_autocast(values):
        return chosen.run(weights, values, window, normalize)


def window_values(maps: Float[Tensor, "b d *size"], window_size: int | Size) -> Float[Tensor, "b d r *size"]:
    """For every position the elements of the window around it, row by row; zero outside the map.

    |window| copies of the map: for depths of a few channels.

    Paper: none (ours).

    Args:
        maps: Any map.
        window_size: Side of the window, or one for each axis; odd.

    Raises:
        ArgumentError: Another shape, an even window.
        ArgumentTypeError: A map that is no tensor of floating-point numbers.

    Example:
        >>> window_values(torch.arange(1.0, 4.0).view(1, 1, 3), 3)[0, 0].tolist()
        [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]
    """
    bind_tensor("window_values", "maps", maps, "b d *size", {})
    window = window_sides("window_values", window_size, maps.ndim - 2)
    with outside_autocast(maps):
        return torch.stack(list(shifts.neighbours(maps, window)), dim=2)


def window_sides(who: str, window_size: int | Size, axes: int) -> Size:
    """One odd side for each axis."""
    window = (window_size,) * axes if isinstance(window_size, int) else tuple(window_size)
    check_scope(who, window, axes, "window_size")
    return window
