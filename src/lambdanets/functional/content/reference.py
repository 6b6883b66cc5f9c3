"""The specification: normalised keys, the content lambda, applied."""

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional.lambdas import KeyNormalization, apply_lambdas, content_lambda, normalize_keys


def run(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> Float[Tensor, "b h v *size"]:
    """y = (K̄ᵀ V)ᵀ q, in the paper's order and at least in float32."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    normalized_keys = normalize_keys(keys.to(dtype).flatten(3), key_normalization)
    summary = content_lambda(normalized_keys, values.to(dtype).flatten(3))
    output = apply_lambdas(queries.to(dtype).flatten(3), summary)
    return output.unflatten(-1, queries.shape[3:]).to(queries.dtype)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·k·v·(m·u + n·h), with the keys read three times and the rest once."""
    device = rates(problem.device)
    n, m = problem.positions, problem.scope[0]
    k, u, v, h = problem.query_depth, problem.intra_depth, problem.value_depth, problem.heads
    flops = 2 * problem.batch * k * v * (m * u + n * h)
    moved = 4 * problem.batch * (m * u * (3 * k + v) + n * h * (k + v))
    return flops / device.product_flops + moved / device.bytes + 6 * device.launch_seconds


IMPLEMENTATION = Implementation("reference", why_not, cost, run)
