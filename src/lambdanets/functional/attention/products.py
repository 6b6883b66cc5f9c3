"""Global attention by two matrix products, with the logits in memory: for short sequences and small maps."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, default_workspace, rates
from lambdanets.functional._layout import in_order_of, product_precision
from lambdanets.functional.attention.relative import Tables, axis_embeddings, relative_logits

# Measured on a CPU: how often the logits are moved, where a cache holds them and where they need new memory.
PASSES, PASSES_BEYOND_CACHE = 10, 40


def run(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None,
) -> Float[Tensor, "b h v *size"]:
    """softmax(Q Kᵀ + relative logits) V; the relative logits of each axis are added along the others."""
    dtype = product_precision(queries)
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    asked, near = queries.to(dtype) * queries.shape[2] ** -0.5, keys.to(dtype).flatten(3)
    logits = asked.flatten(3).mT @ near  # b h n m
    if tables is not None:
        pairs = logits.unflatten(-1, context)
        embeddings = axis_embeddings(tables, size, context, dtype)
        for axis, found in enumerate(relative_logits(asked, embeddings)):
            shape = [1] * len(context)
            shape[axis] = context[axis]
            pairs = pairs + found.flatten(2, -2).unflatten(-1, shape)
        logits = pairs.flatten(3)
    output = torch.matmul(logits.softmax(-1), values.to(dtype).flatten(3).mT)  # b h n v
    return in_order_of(output.mT.unflatten(-1, size), queries).to(queries.dtype)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·h·n·m·(k + v), and the logits written and read."""
    device = rates(problem.device)
    pairs = problem.batch * problem.heads * problem.positions * math.prod(problem.scope)
    moved = 4 * pairs
    passes = PASSES if moved <= default_workspace(problem.device) else PASSES_BEYOND_CACHE
    flops = 2 * pairs * (problem.query_depth + problem.value_depth)
    return flops / device.product_flops + passes * moved / device.bytes + 10 * device.launch_seconds


IMPLEMENTATION = Implementation("products", why_not, cost, run)
