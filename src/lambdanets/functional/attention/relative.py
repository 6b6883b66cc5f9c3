"""Relative positions of attention: a table for each axis, and the logits that queries make of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_shape
from lambdanets.functional.relative_position import Size, check_scope, dense_embeddings, relative_offsets

Tables = Sequence[Float[Tensor, "k _"]]


def pair_embeddings(tables: Tables, size: Size, context_size: Size) -> Float[Tensor, "n m k"]:
    """Write the tables out: one embedding for each pair, the sum of those of its offsets along the axes.

    Zero along an axis where the offset is not in the table.

    Paper: §C.4 (relative attention).
    """
    offsets = relative_offsets(size, context_size).to(tables[0].device)
    embeddings = tables[0].new_zeros(*offsets.shape[:2], tables[0].shape[0])
    for table, offset in zip(tables, offsets.unbind(-1), strict=True):
        place = offset + table.shape[1] // 2
        known = (place >= 0) & (place < table.shape[1])
        embeddings = embeddings + table.T[place.where(known, 0)] * known[..., None]
    return embeddings


def axis_embeddings(
    tables: Tables, size: Size, context_size: Size, dtype: torch.dtype
) -> list[Float[Tensor, "_ _ k"]]:
    """For each axis one embedding for each place of a query and each of a context element along it.

    Paper: §C.4 (relative attention).
    """
    return [
        dense_embeddings(table.to(dtype).unsqueeze(0), (length,), (context_length,))[:, :, 0]
        for table, length, context_length in zip(tables, size, context_size, strict=True)
    ]


def relative_logits(
    queries: Float[Tensor, "b h k *size"], embeddings: Sequence[Float[Tensor, "_ _ k"]]
) -> list[Float[Tensor, "b h *rest"]]:
    """For each axis the products of a query with the embeddings of all places along it: "b h *size places".

    The logit of a pair is the sum over the axes: n·places numbers an axis in the place of n·m.

    Paper: §C.4 (relative attention).
    """
    logits = []
    for axis, places in enumerate(embeddings):
        moved = queries.movedim((3 + axis, 2), (0, -1))  # place b h *others k
        products = torch.bmm(moved.flatten(1, -2), places.mT)  # place b·h·others m
        logits.append(products.unflatten(1, moved.shape[1:-1]).movedim(0, 2 + axis))
    return logits


def check_tables(who: str, tables: Tables | None, axes: int, sizes: Sizes) -> None:
    """Raise unless there is one table of odd length for each axis, of the depth of the queries."""
    if tables is None:
        return
    if len(tables) != axes:
        raise ArgumentError(f"{who}: tables must be {axes}, one for each axis, got {len(tables)}.")
    for table in tables:
        bind_shape(who, "tables", table, "k r", {"k": sizes["k"]})
        check_scope(who, (table.shape[1],), 1, "length of tables")
