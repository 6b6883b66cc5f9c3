"""torch's fused kernel with relative positions as further depth: no bias, and no matrix of pairs.

The logit of a pair is qₙ·kₘ + Σ_axes ρ[n, place of m along the axis]. With the row ρₙ behind the query and
the places of m, as ones at their indices, behind the key, one product gives all of it: no bias is needed.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

from lambdanets.functional.attention.relative import relative_logits
from lambdanets.functional.relative_position import Size


def attend_rows(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    embeddings: list[Tensor] | None,
    mask: Tensor | None,
) -> Float[Tensor, "b h n v"]:
    """The fused kernel on rows; scaled queries, and embeddings of places along each axis."""
    asked, near, seen = (tensor.flatten(3).mT for tensor in (queries, keys, values))
    if embeddings is not None:
        logits = [found.flatten(2, -2) for found in relative_logits(queries, embeddings)]
        asked = torch.cat([asked, *logits], dim=-1)
        places = place_vectors(tuple(keys.shape[3:]), near)
        near = torch.cat([near, places.expand(*near.shape[:2], -1, -1)], dim=-1)
    v, depth = seen.shape[-1], max(asked.shape[-1], seen.shape[-1])
    # The kernels want one depth for all three.
    asked, near, seen = (pad(rows, (0, depth - rows.shape[-1])) for rows in (asked, near, seen))
    return scaled_dot_product_attention(asked, near, seen, attn_mask=mask, scale=1.0)[..., :v]


def place_vectors(size: Size, like: Tensor) -> Float[Tensor, "m e"]:
    """For each element of a map ones at its index along every axis, one axis behind the other."""
    axes = torch.meshgrid(*(torch.arange(length, device=like.device) for length in size), indexing="ij")
    ones = [one_hot(axis.flatten(), length) for axis, length in zip(axes, size, strict=True)]
    return torch.cat(ones, dim=-1).to(like.dtype)
