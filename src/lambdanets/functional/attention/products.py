"""Full attention by matrix products: with the logits in memory, or by torch's fused kernel."""

import math

from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import (
    Implementation,
    Problem,
    default_workspace,
    rates,
    runs_everything,
)
from lambdanets.functional._layout import in_order_of, product_precision
from lambdanets.functional.attention.logits import (
    Tables,
    axis_embeddings,
    fused_attention,
    relative_logits,
    scaled,
)

# Measured on a CPU: how often the logits are moved, where a cache holds them and where they need new memory.
_PASSES, _PASSES_BEYOND_CACHE = 10, 40


def _run_products(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None,
) -> Float[Tensor, "b h v *size"]:
    """softmax(Q Kᵀ + relative logits) V; the relative logits of each axis are added along the others."""
    dtype = product_precision(queries)
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    q = scaled(queries, dtype)
    logits = q.flatten(3).mT @ keys.to(dtype).flatten(3)  # b h n m
    if tables is not None:
        pairs = logits.unflatten(-1, context)
        embeddings = axis_embeddings(tables, size, context, dtype)
        for axis, places in enumerate(relative_logits(q, embeddings)):
            shape = [1] * len(context)
            shape[axis] = context[axis]
            pairs = pairs + places.flatten(2, -2).unflatten(-1, shape)
        logits = pairs.flatten(3)
    output = logits.softmax(-1) @ values.to(dtype).flatten(3).mT  # b h n v
    return in_order_of(output.mT.unflatten(-1, size), queries).to(queries.dtype)


def _products_cost(problem: Problem) -> float:
    """2·b·h·n·m·(k + v), and the logits written and read."""
    device = rates(problem.device)
    pairs = problem.batch * problem.heads * problem.positions * math.prod(problem.scope)
    moved = 4 * pairs
    passes = _PASSES if moved <= default_workspace(problem.device) else _PASSES_BEYOND_CACHE
    flops = 2 * pairs * (problem.query_depth + problem.value_depth)
    return flops / device.product_flops + passes * moved / device.bytes + 10 * device.launch_seconds


def _run_sdpa(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None,
) -> Float[Tensor, "b h v *size"]:
    """Queries with their relative logits against keys with their places, without a matrix of pairs."""
    dtype = product_precision(queries)
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    q = scaled(queries, dtype)
    embeddings = None if tables is None else axis_embeddings(tables, size, context, dtype)
    output = fused_attention(q, keys.to(dtype), values.to(dtype), embeddings, None)
    return in_order_of(output.mT.unflatten(-1, size), queries).to(queries.dtype)


def _sdpa_cost(problem: Problem) -> float:
    """4·b·h·n·m·(k with the places, or v), the depth of all three, and everything read once."""
    device = rates(problem.device)
    n, m = problem.positions, math.prod(problem.scope)
    depth = max(problem.query_depth, problem.value_depth)
    # The fused kernel runs at about half the rate of plain products, as measured on a CPU.
    seconds = 8 * n * m * depth / device.product_flops + 4 * 2 * (n + m) * depth / device.bytes
    return problem.batch * problem.heads * seconds + 20 * device.launch_seconds


PRODUCTS = Implementation("products", runs_everything, _products_cost, _run_products)
SDPA = Implementation(
    "sdpa",
    lambda problem: None if math.prod(problem.scope) else "needs a context of one element or more",
    _sdpa_cost,
    _run_sdpa,
)
