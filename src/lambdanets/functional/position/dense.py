"""Attention form: queries times embeddings, times values; two batched matrix products, no lambdas."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional.relative_position import dense_embeddings


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
) -> Float[Tensor, "b h v *size"]:
    """s = Σ_k q e, then y = Σ_m s v: the same chain of products, its left pair first."""
    b, h, _, *size = queries.shape
    u, v = values.shape[1:3]
    n = math.prod(size)
    # Written out in float32, so that the table's gradient sums its n pairs an offset there.
    exact = table.to(torch.promote_types(table.dtype, torch.float32))
    embeddings = (
        dense_embeddings(exact, tuple(size)).to(values.dtype).permute(0, 3, 2, 1).flatten(2)
    )  # n k um
    by_position = queries.flatten(3).permute(3, 0, 1, 2).flatten(1, 2)  # n bh k
    scores = torch.bmm(by_position, embeddings)  # n bh um
    scores = scores.unflatten(1, (b, h)).permute(1, 2, 0, 3).reshape(b, h * n, u * n)  # b hn um
    context = values.flatten(3).transpose(2, 3).reshape(b, u * n, v)  # b um v
    output = torch.bmm(scores, context).unflatten(1, (h, n))  # b h n v
    return output.transpose(2, 3).unflatten(-1, size).to(queries.dtype)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·n²·u·h·(k + v), every pair whether in scope or not; the scores are written and read twice."""
    device, n = rates(problem.device), problem.positions
    b, h, u = problem.batch, problem.heads, problem.intra_depth
    flops = 2 * b * n * n * u * h * (problem.query_depth + problem.value_depth)
    moved = problem.item_bytes * n * n * u * (4 * b * h + 4 * problem.query_depth)
    # With the gradients twice the forward, measured: the large products keep their rate.
    passes = 2 if problem.needs_gradient else 1
    return passes * (flops / device.product_flops + moved / device.bytes + 8 * device.launch_seconds)


IMPLEMENTATION = Implementation("dense", why_not, cost, run)
