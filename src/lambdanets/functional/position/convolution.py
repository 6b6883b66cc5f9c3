"""Lambda convolution: the values folded into the batch of a 1-, 2- or 3-d convolution."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv3d

from lambdanets.functional._dispatch import Implementation, Problem, rates


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
) -> Float[Tensor, "b h v *size"]:
    """λ = conv(v, R) with u channels in and k out; then applied to the queries.

    The value depth joins the batch, so that a 2-d map needs a 2-d convolution.
    """
    b, v = values.shape[0], values.shape[2]
    convolve = (conv1d, conv2d, conv3d)[table.ndim - 3]
    # A CPU sums k·|scope| terms of the values' gradient in the precision of the input, and slowly.
    dtype = torch.promote_types(values.dtype, torch.float32) if values.is_cpu else values.dtype
    folded = values.to(dtype).transpose(1, 2).flatten(0, 1)  # bv u *size
    padding = [side // 2 for side in table.shape[2:]]
    kernel = table.to(dtype).transpose(0, 1)  # k u *scope
    lambdas = convolve(folded, kernel, padding=padding).unflatten(0, (b, v))  # b v k *size
    output = torch.einsum("bhkn,bvkn->bhvn", queries.to(dtype).flatten(3), lambdas.flatten(3))
    return output.unflatten(-1, queries.shape[3:]).to(queries.dtype)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·n·|scope|·u·k·v for the lambdas, which are written once, permuted and read."""
    device = rates(problem.device)
    lambdas = problem.batch * problem.positions * problem.query_depth * problem.value_depth
    forward = 2 * lambdas * math.prod(problem.reachable_scope) * problem.intra_depth
    moved = 4 * problem.item_bytes * lambdas
    # Both gradients of a convolution with so few channels, beside the forward: measured, 3.5 to 5.
    effort = 4 if problem.needs_gradient else 1
    passes = 3 if problem.needs_gradient else 1
    return (
        effort * forward / device.convolution_flops
        + passes * moved / device.bytes
        + passes * 6 * device.launch_seconds
    )


IMPLEMENTATION = Implementation("convolution", why_not, cost, run)
