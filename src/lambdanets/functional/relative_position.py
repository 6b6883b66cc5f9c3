"""Relative positions: offsets, a table and its dense embeddings, crop, resize, scope."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_shape

Size = tuple[int, ...]


def relative_offsets(size: Size, context_size: Size | None = None) -> Int[Tensor, "n m axes"]:
    """The offset m - n from every query to every context element, along each axis.

    Positions are counted in row-major order, from zero on both sides.

    Paper: §3.1.

    Example:
        >>> relative_offsets((3,))[..., 0].tolist()
        [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]
    """
    queries, context = _coordinates(size), _coordinates(size if context_size is None else context_size)
    return context[None, :] - queries[:, None]


def _coordinates(size: Size) -> Int[Tensor, "n axes"]:
    axes = torch.meshgrid(*(torch.arange(length) for length in size), indexing="ij")
    return torch.stack([axis.reshape(-1) for axis in axes], dim=-1)


def scope_mask(size: Size, scope: Size, context_size: Size | None = None) -> Bool[Tensor, "n m"]:
    """True where a context element lies in the local window around a query.

    Paper: §3.1 (scope).
    """
    check_scope("scope_mask", scope, len(size))
    reach = torch.tensor(scope) // 2
    return (relative_offsets(size, context_size).abs() <= reach).all(dim=-1)


def dense_embeddings(
    table: Float[Tensor, "u k *scope"], size: Size, context_size: Size | None = None
) -> Float[Tensor, "n m u k"]:
    """Write a relative table out: one embedding per (query, context) pair.

    e_nm = R[m - n], zero outside the scope. The index is offset + scope // 2: a cross-correlation.
    n·m·u·k numbers; for references, masks and small maps.

    Paper: §3.1; §B.4 for u.

    Args:
        table: One embedding per relative offset; every side odd.
        size: Query positions along each axis.
        context_size: Context positions along each axis; `size` by default.
    """
    context_size = size if context_size is None else context_size
    check_scope("dense_embeddings", tuple(table.shape[2:]), len(size))
    for axis, lengths in enumerate(zip(size, context_size, strict=True)):
        table = _spread_axis(table, 2 + 2 * axis, *lengths)
    axes = range(2, table.ndim)
    spread = table.permute(*axes[::2], *axes[1::2], 0, 1)  # *size *context u k
    return spread.reshape(math.prod(size), math.prod(context_size), *table.shape[:2])


def _spread_axis(table: Tensor, axis: int, length: int, context_length: int) -> Tensor:
    """Replace one axis of offsets by two, of queries and of context; offsets out of scope read a zero."""
    side = table.shape[axis]
    zero = table.new_zeros(()).expand(*table.shape[:axis], 1, *table.shape[axis + 1 :])
    places = torch.arange(context_length) - torch.arange(length)[:, None] + side // 2  # n m
    index = places.where((places >= 0) & (places < side), side).flatten()
    rows = torch.cat([table, zero], dim=axis).index_select(axis, index.to(table.device))
    return rows.unflatten(axis, (length, context_length))


def table_from_embeddings(
    embeddings: Float[Tensor, "n m u k"], size: Size, context_size: Size | None = None
) -> Float[Tensor, "u k *scope"]:
    """Gather dense embeddings back into a table over every offset that occurs.

    Exact for embeddings that depend on m - n alone; otherwise the mean over the pairs of each
    offset, which is the nearest table in least squares.

    Paper: none (ours).

    Returns:
        A table that is max(2·size - 1, 2·context_size - 1) along each axis. Offsets that join no
        pair are zero.
    """
    context = size if context_size is None else context_size
    bound: Sizes = {
        "n": (math.prod(size), "size"),
        "m": (math.prod(context), "size" if context_size is None else "context_size"),
    }
    bind_shape("table_from_embeddings", "embeddings", embeddings, "n m u k", bound)
    scope = tuple(2 * max(a, b) - 1 for a, b in zip(size, context, strict=True))
    places = relative_offsets(size, context) + torch.tensor(scope) // 2
    index = torch.zeros_like(places[..., 0])
    for axis, side in enumerate(scope):
        index = index * side + places[..., axis]
    index = index.to(embeddings.device)
    flat = embeddings.flatten(0, 1)  # nm u k
    total = flat.new_zeros(math.prod(scope), *flat.shape[1:]).index_add(0, index.flatten(), flat)
    count = torch.bincount(index.flatten(), minlength=math.prod(scope)).clamp(min=1)
    return (total / count[:, None, None]).permute(1, 2, 0).unflatten(-1, scope)


def crop_table(table: Float[Tensor, "u k *scope"], scope: Size) -> Float[Tensor, "u k *cropped"]:
    """Keep the offsets nearest to zero: at most `scope` of them along each axis. Exact.

    A map of `size` elements reaches no more than 2·size - 1 offsets.

    Paper: none (ours).
    """
    check_scope("crop_table", scope, table.ndim - 2)
    for axis, (have, keep) in enumerate(zip(table.shape[2:], scope, strict=True), start=2):
        if keep < have:
            table = table.narrow(axis, (have - keep) // 2, keep)
    return table


def resize_table(table: Float[Tensor, "u k *scope"], scope: Size) -> Float[Tensor, "u k *resized"]:
    """Interpolate a table to other sides: linear along each axis, offset zero stays where it is.

    The outermost offsets map to the outermost offsets; sides may grow and shrink. To fit a smaller
    map without changing any embedding, crop instead.

    Paper: none (ours).
    """
    check_scope("resize_table", scope, table.ndim - 2)
    for axis, (old, new) in enumerate(zip(table.shape[2:], scope, strict=True), start=2):
        if new != old:
            weights = _interpolation(old, new).to(table)
            table = torch.tensordot(table, weights, dims=([axis], [1])).movedim(-1, axis)
    return table


def _interpolation(old: int, new: int) -> Float[Tensor, "new old"]:
    """Rows of weights that read `old` samples at `new` places, evenly spread around the centre."""
    centre = (old - 1) / 2
    step = centre / ((new - 1) / 2) if new > 1 else 0.0
    places = centre + step * (torch.arange(new, dtype=torch.float64) - (new - 1) / 2)
    return (1 - (places[:, None] - torch.arange(old)).abs()).clamp(min=0)


def check_scope(who: str, scope: Size, axes: int) -> None:
    """Raise unless there is one odd side for each axis."""
    if len(scope) != axes:
        raise ArgumentError(f"{who}: scope must have {axes} sides, one for each axis, got {scope}.")
    for side in scope:
        if side < 1:
            raise ArgumentError(f"{who}: scope must be positive and odd, got {side}.")
        if side % 2 == 0:
            raise ArgumentError(
                f"{who}: scope must be odd, got {side}. "
                f"An even window has no centre; use {side - 1} or {side + 1}."
            )
