"""Logits of pairs: of appearance and of relative positions, and torch's fused kernel with the latter."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

from lambdanets.errors import ArgumentError, Sizes, bind_tensor, plain_sizes
from lambdanets.functional._layout import is_traced
from lambdanets.functional.relative_position import Size, check_scope, dense_embeddings

Tables = Sequence[Float[Tensor, "k _"]]


def check_tables(who: str, tables: Tables | None, axes: int, sizes: Sizes, argument: str = "tables") -> None:
    """Raise unless each axis has one table, of odd length and of the depth of the queries."""
    if tables is None:
        return
    if len(tables) != axes:
        raise ArgumentError(f"{who}: tables must be {axes}, one for each axis, got {len(tables)}.")
    for table in tables:
        # Each has a length of its own. While a graph is traced, nothing is known of sizes.
        bind_tensor(
            who, argument, table, "k r", {name: sizes[name] for name in ("k", "dtype") if name in sizes}
        )
        check_scope(who, (table.shape[1],), 1, f"length of {argument}")


def scaled(queries: Float[Tensor, "b h k *size"], dtype: torch.dtype) -> Float[Tensor, "b h k *size"]:
    """Queries over √k, whose products with keys are the logits."""
    (k,) = plain_sizes(queries.shape[2:3]) if is_traced() else queries.shape[2:3]
    return queries.to(dtype) * k**-0.5


def compare(queries: Tensor, keys: Tensor, appearance: str) -> Tensor:
    """Φ(q, k) of "b h k …" and "b h k …", which may broadcast: q·k, -|q - k|² or -Σ|q - k|."""
    if appearance == "product":
        return (queries * keys).sum(2)
    differences = queries - keys
    return -(differences.square() if appearance == "squared_difference" else differences.abs()).sum(2)


def axis_embeddings(
    tables: Tables, size: Size, context_size: Size, dtype: torch.dtype
) -> list[Float[Tensor, "_ _ k"]]:
    """For each axis one embedding for each place of a query and each of a context element along it."""
    return [
        dense_embeddings(table.to(dtype).unsqueeze(0), (length,), (context_length,))[:, :, 0]
        for table, length, context_length in zip(tables, size, context_size, strict=True)
    ]


def relative_logits(
    queries: Float[Tensor, "b h k *size"], embeddings: Sequence[Float[Tensor, "_ _ k"]]
) -> list[Float[Tensor, "b h *rest"]]:
    """For each axis the products of a query with the embeddings of all places along it: "b h *size places".

    The logit of a pair is the sum over the axes: n·places numbers an axis instead of n·m.
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

    The queries are scaled, the embeddings those of `axis_embeddings`. The mask is true where a query sees.
    """
    q, k, v = (tensor.flatten(3).mT for tensor in (queries, keys, values))
    if embeddings is not None:
        logits = [axis.flatten(2, -2) for axis in relative_logits(queries, embeddings)]
        q = torch.cat([q, *logits], dim=-1)
        lengths = keys.shape[3:]
        axes = torch.meshgrid(*(torch.arange(length, device=k.device) for length in lengths), indexing="ij")
        ones = [one_hot(axis.flatten(), length) for axis, length in zip(axes, lengths, strict=True)]
        places = torch.cat(ones, dim=-1).to(k.dtype)  # m e
        k = torch.cat([k, places.expand(*k.shape[:2], -1, -1)], dim=-1)
    value_depth, depth = v.shape[-1], max(q.shape[-1], v.shape[-1])
    # The kernels want one depth for all three.
    q, k, v = (pad(rows, (0, depth - rows.shape[-1])) for rows in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)[..., :value_depth]
