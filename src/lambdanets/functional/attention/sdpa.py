"""Global attention by torch's fused kernel, with relative positions as further depth and no matrix of pairs.

The logit of a pair is qₙ·kₘ + Σ_axes ρ[n, place of m along the axis]. With the row ρₙ behind the query and
the places of m, as ones at their indices, behind the key, one product gives all of it: no bias is needed.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional._order import in_order_of
from lambdanets.functional._precision import product_precision
from lambdanets.functional.attention.relative import Tables, axis_embeddings, relative_logits
from lambdanets.functional.relative_position import Size


def run(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None,
) -> Float[Tensor, "b h v *size"]:
    """Queries with their relative logits against keys with their places."""
    dtype = product_precision(queries)
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    asked, near = queries.to(dtype) * queries.shape[2] ** -0.5, keys.to(dtype)
    embeddings = None if tables is None else axis_embeddings(tables, size, context, dtype)
    output = attend_rows(asked, near, values.to(dtype), embeddings, None)
    return in_order_of(output.mT.unflatten(-1, size), queries).to(queries.dtype)


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
    places = [
        one_hot(torch.arange(length, device=like.device), length)
        .to(like.dtype)[(None,) * axis + (slice(None),) + (None,) * (len(size) - 1 - axis)]
        .expand(*size, length)
        for axis, length in enumerate(size)
    ]
    return torch.cat(places, dim=-1).flatten(0, -2)


def why_not(problem: Problem) -> str | None:
    """A softmax is of one element at least."""
    return None if math.prod(problem.scope) else "needs a context of one element or more"


def cost(problem: Problem) -> float:
    """4·b·h·n·m·(k and the places, or v), which is the depth of all three, and everything read once."""
    device = rates(problem.device)
    n, m = problem.positions, math.prod(problem.scope)
    depth = max(problem.query_depth + sum(problem.scope), problem.value_depth)
    seconds = 4 * n * m * depth / device.product_flops + 4 * 2 * (n + m) * depth / device.bytes
    return problem.batch * problem.heads * seconds + 20 * device.launch_seconds


IMPLEMENTATION = Implementation("sdpa", why_not, cost, run)
