"""Relative positions: offsets, a table and its dense embeddings, crop, resize, scope."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_tensor, bind_type
from lambdanets.functional._layout import is_traced

Size = tuple[int, ...]


def relative_offsets(
    size: Size, context_size: Size | None = None, *, device: torch.device | None = None
) -> Int[Tensor, "n m axes"]:
    """The offset m - n from every query to every context element, along each axis.

    Positions are counted in row-major order, from zero on both sides.

    Paper: §3.1.

    Args:
        size: Query positions along each axis.
        context_size: Context positions along each axis; `size` by default.
        device: Where the offsets are made; torch's default device by default.

    Example:
        >>> relative_offsets((3,))[..., 0].tolist()
        [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]
    """
    context_size = size if context_size is None else context_size
    queries, context = _coordinates(size, device), _coordinates(context_size, device)
    return context[None, :] - queries[:, None]


def _coordinates(size: Size, device: torch.device | None) -> Int[Tensor, "n axes"]:
    axes = torch.meshgrid(*(torch.arange(length, device=device) for length in size), indexing="ij")
    return torch.stack([axis.reshape(-1) for axis in axes], dim=-1)


def scope_mask(
    size: Size, scope: Size, context_size: Size | None = None, *, device: torch.device | None = None
) -> Bool[Tensor, "n m"]:
    """True where a context element lies in the local window around a query.

    The arguments not listed are those of `relative_offsets`.

    Paper: §3.1 (scope).

    Args:
        scope: Side of the window along each axis; odd.

    Raises:
        ArgumentError: A scope of another number of axes, or an even one.
    """
    check_scope("scope_mask", scope, len(size))
    distances = relative_offsets(size, context_size, device=device).abs().unbind(-1)
    within = [one <= side // 2 for one, side in zip(distances, scope, strict=True)]
    return torch.stack(within).all(dim=0)


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

    Raises:
        ArgumentError: A table of another number of axes, or with an even side.
        ArgumentTypeError: A table that is no tensor of floating-point numbers.
    """
    context_size = size if context_size is None else context_size
    bind_tensor("dense_embeddings", "table", table, "u k *scope", {})
    check_scope("dense_embeddings", tuple(table.shape[2:]), len(size))
    for index, (length, context_length) in enumerate(zip(size, context_size, strict=True)):
        # One axis of offsets becomes two, of queries and of context; offsets out of scope read a zero.
        axis, side = 2 + 2 * index, table.shape[2 + 2 * index]
        to, at = (torch.arange(one, device=table.device) for one in (context_length, length))
        places = to - at[:, None] + side // 2  # n m
        places = places.where((places >= 0) & (places < side), side).flatten()
        with_zero = torch.nn.functional.pad(table, (0, 0) * (table.ndim - 1 - axis) + (0, 1))
        rows = with_zero.index_select(axis, places)
        table = rows.unflatten(axis, (length, context_length))
    axes = range(2, table.ndim)
    spread = table.permute(*axes[::2], *axes[1::2], 0, 1)  # *size *context u k
    return spread.reshape(math.prod(size), math.prod(context_size), *table.shape[:2])


def fold_embeddings(
    embeddings: Float[Tensor, "n m u k"], size: Size, scope: Size, context_size: Size | None = None
) -> Float[Tensor, "u k *scope"]:
    """Sum dense embeddings over the pairs of each offset: the adjoint of `dense_embeddings`.

    In a fixed order on every device.

    Paper: none (ours).

    Raises:
        ArgumentError: Embeddings of another shape than the sizes say, an even scope.
        ArgumentTypeError: Embeddings that are no tensor of floating-point numbers.
    """
    bind_tensor("fold_embeddings", "embeddings", embeddings, "n m u k", _pairs_of(size, context_size))
    check_scope("fold_embeddings", scope, len(size))
    context_size = size if context_size is None else context_size
    axes = len(size)
    table = embeddings.movedim((2, 3), (0, 1)).unflatten(3, context_size).unflatten(2, size)
    for axis, lengths in enumerate(zip(size, context_size, scope, strict=True)):
        # The queries' axes come first, the context's behind; both of this axis become one of offsets.
        table = fold_axis(table.movedim((2, 2 + axes - axis), (-2, -1)), *lengths)
    return table


def fold_axis(
    table: Float[Tensor, "*rest"], length: int, context_length: int, side: int
) -> Float[Tensor, "*folded"]:
    """Sum the last two axes, queries and context, along their diagonals: offset m - n becomes an index.

    Paper: none (ours).

    Args:
        table: Any tensor "… length context_length".
        length: Queries along the axis.
        context_length: Context elements along the axis.
        side: Offsets of the result, odd; zero is in the middle.

    Raises:
        ArgumentTypeError: A table that is no tensor of floating-point numbers.
    """
    bind_type("fold_axis", "table", table, {})
    # Rows written at one pitch and read at a pitch less by one slide by one place each.
    rows = torch.nn.functional.pad(table.flip(-2), (0, length)).flatten(-2)
    pitch = length + context_length - 1
    offsets = rows[..., : length * pitch].unflatten(-1, (length, pitch)).sum(-2)
    # Offset zero is at index length - 1; the scope has it at side // 2.
    before, after = side // 2 - (length - 1), side // 2 - (context_length - 1)
    return torch.nn.functional.pad(offsets, (before, after))


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

    Raises:
        ArgumentError: Embeddings of another shape than the sizes say.
        ArgumentTypeError: Embeddings that are no tensor of floating-point numbers.
    """
    bind_tensor("table_from_embeddings", "embeddings", embeddings, "n m u k", _pairs_of(size, context_size))
    context = size if context_size is None else context_size
    scope = tuple(2 * max(a, b) - 1 for a, b in zip(size, context, strict=True))
    pairs = fold_embeddings(torch.ones_like(embeddings[..., :1, :1]), size, scope, context)
    return fold_embeddings(embeddings, size, scope, context) / pairs.clamp(min=1)


def _pairs_of(size: Size, context_size: Size | None) -> Sizes:
    """The number of queries and of context elements, with the arguments they are taken from."""
    source, context = ("size", size) if context_size is None else ("context_size", context_size)
    return {"n": (math.prod(size), "size"), "m": (math.prod(context), source)}


def crop_table(table: Float[Tensor, "u k *scope"], scope: Size) -> Float[Tensor, "u k *cropped"]:
    """Keep the offsets nearest to zero: at most `scope` of them along each axis. Exact.

    A map of `size` elements reaches no more than 2·size - 1 offsets.

    Paper: none (ours).

    Raises:
        ArgumentError: A scope of another number of axes than the table's, or an even one.
        ArgumentTypeError: A table that is no tensor of floating-point numbers.
    """
    bind_tensor("crop_table", "table", table, "u k *scope", {})
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

    Raises:
        ArgumentError: A scope of another number of axes than the table's, or an even one.
        ArgumentTypeError: A table that is no tensor of floating-point numbers.
    """
    bind_tensor("resize_table", "table", table, "u k *scope", {})
    check_scope("resize_table", scope, table.ndim - 2)
    for axis, (old, new) in enumerate(zip(table.shape[2:], scope, strict=True), start=2):
        if new != old:
            # `old` samples read at `new` places, evenly spread around the centre.
            centre, step = (old - 1) / 2, (old - 1) / (new - 1) if new > 1 else 0.0
            # On the processor: not every device has float64.
            to, at = (torch.arange(side, dtype=torch.float64, device="cpu") for side in (new, old))
            places = centre + step * (to - (new - 1) / 2)
            weights = (1 - (places[:, None] - at).abs()).clamp(min=0).to(table)  # new old
            table = torch.tensordot(table, weights, dims=([axis], [1])).movedim(-1, axis)
    return table


def check_scope(who: str, scope: Size, axes: int, argument: str = "scope") -> None:
    """Raise unless there is one odd side for each axis."""
    if is_traced():  # which has no numbers, but tensors
        return
    if len(scope) != axes:
        raise ArgumentError(f"{who}: {argument} must have {axes} sides, one for each axis, got {scope}.")
    for side in scope:
        if side < 1:
            raise ArgumentError(f"{who}: {argument} must be positive and odd, got {side}.")
        if side % 2 == 0:
            raise ArgumentError(
                f"{who}: {argument} must be odd, got {side}. "
                f"An even window has no centre; use {side - 1} or {side + 1}."
            )
