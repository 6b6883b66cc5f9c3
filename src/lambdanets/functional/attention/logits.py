"""Logits of pairs: of appearance and of relative positions, and torch's fused kernel with the latter."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

from lambdanets.errors import ArgumentError, Sizes, bind_shape
from lambdanets.functional.relative_position import Size, check_scope, dense_embeddings, relative_offsets

Tables = Sequence[Float[Tensor, "k _"]]


def check_tables(who: str, tables: Tables | None, axes: int, sizes: Sizes) -> None:
    """Raise unless each axis has one table, of odd length and of the depth of the queries."""
    if tables is None:
        return
    if len(tables) != axes:
        raise ArgumentError(f"{who}: tables must be {axes}, one for each axis, got {len(tables)}.")
    for table in tables:
        bind_shape(who, "tables", table, "k r", {"k": sizes["k"]})
        check_scope(who, (table.shape[1],), 1, "length of tables")


def compare(queries: Tensor, keys: Tensor, appearance: str) -> Tensor:
    """Φ(q, k) of "b h k …" and "b h k …", which may broadcast: q·k, -|q - k|² or -Σ|q - k|."""
    if appearance == "product":
        return (queries * keys).sum(2)
    differences = queries - keys
    return -(differences.square() if appearance == "squared_difference" else differences.abs()).sum(2)


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


def fused_attention(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    embeddings: list[Tensor] | None,
    mask: Tensor | None,
) -> Float[Tensor, "b h n v"]:
    """torch's fused kernel with relative positions as further depth: no bias, and no matrix of pairs.

    The logit of a pair is qₙ·kₘ + Σ_axes ρ[n, place of m along the axis]. With the row ρₙ behind the query
    and the places of m, as ones at their indices, behind the key, one product gives all of it.

    Args:
        queries: Scaled.
        keys: One key for each context element.
        values: One value for each context element.
        embeddings: Of the places along each axis, as from `axis_embeddings`.
        mask: True where a query sees an element.
    """
    q, k, v = (tensor.flatten(3).mT for tensor in (queries, keys, values))
    if embeddings is not None:
        logits = [axis.flatten(2, -2) for axis in relative_logits(queries, embeddings)]
        q = torch.cat([q, *logits], dim=-1)
        places = _place_vectors(tuple(keys.shape[3:]), k)
        k = torch.cat([k, places.expand(*k.shape[:2], -1, -1)], dim=-1)
    value_depth, depth = v.shape[-1], max(q.shape[-1], v.shape[-1])
    # The kernels want one depth for all three.
    q, k, v = (pad(rows, (0, depth - rows.shape[-1])) for rows in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)[..., :value_depth]


def _place_vectors(size: Size, like: Tensor) -> Float[Tensor, "m e"]:
    """For each element of a map ones at its index along every axis, one axis behind the other."""
    axes = torch.meshgrid(*(torch.arange(length, device=like.device) for length in size), indexing="ij")
    ones = [one_hot(axis.flatten(), length) for axis, length in zip(axes, size, strict=True)]
    return torch.cat(ones, dim=-1).to(like.dtype)
