"""Lambda convolution: the values folded into the batch of a 1-, 2- or 3-d convolution."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv3d

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional._layout import chunks, product_precision

# Measured: folded images up to which a convolution runs at about a third of its rate, and the smallest
# window that is worth its overheads.
_FEW_IMAGES = 128
_SMALLEST_WINDOW = 49


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
) -> Float[Tensor, "b h v *size"]:
    """λ = conv(v, R) with u channels in and k out; then applied to the queries.

    The value depth joins the batch, so that a 2-d map needs a 2-d convolution.
    """
    dtype = product_precision(values)
    kernel = table.to(dtype).transpose(0, 1)  # k u *scope
    output = queries.new_empty(*queries.shape[:2], values.shape[2], *queries.shape[3:])
    for part in _parts(queries, values, workspace):
        lambdas = _lambdas(_fold(values[part], dtype), kernel, values.shape[2])  # b v k n
        applied = torch.einsum("bhkn,bvkn->bhvn", queries[part].to(dtype).flatten(3), lambdas)
        output[part] = applied.unflatten(-1, queries.shape[3:])
    return output


def gradients(
    grad_out: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needs_grad: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq = λ dy with λ computed again; dλ = Σ_h q dyᵀ, and the convolution's own gradients of it."""
    # A CPU sums k·|scope| terms of the values' gradient in the precision of the input, and slowly.
    dtype = product_precision(values)
    kernel = table.to(dtype).transpose(0, 1)  # k u *scope
    size, v = queries.shape[3:], values.shape[2]
    grad_queries, grad_values = torch.empty_like(queries), torch.empty_like(values)
    grad_kernel = torch.zeros_like(kernel, dtype=torch.promote_types(dtype, torch.float32))
    for part in _parts(queries, values, workspace):
        folded, grad = _fold(values[part], dtype), grad_out[part].to(dtype).flatten(3)
        if needs_grad[0]:
            lambdas = _lambdas(folded, kernel, v)
            grad_queries[part] = torch.einsum("bhvn,bvkn->bhkn", grad, lambdas).unflatten(-1, size)
        if needs_grad[1] or needs_grad[2]:
            q = queries[part].to(dtype).flatten(3)
            grad_lambdas = torch.einsum("bhkn,bhvn->bvkn", q, grad).flatten(0, 1).unflatten(-1, size)
            grad_folded, grad_part, _ = torch.ops.aten.convolution_backward(
                grad_lambdas,
                folded,
                kernel,
                bias_sizes=None,
                stride=[1] * len(size),
                padding=[side // 2 for side in kernel.shape[2:]],
                dilation=[1] * len(size),
                transposed=False,
                output_padding=[0] * len(size),
                groups=1,
                output_mask=[needs_grad[1], needs_grad[2], False],
            )
            if grad_folded is not None:
                grad_values[part] = grad_folded.unflatten(0, (-1, v)).transpose(1, 2)
            if grad_part is not None:
                grad_kernel += grad_part
    return grad_queries, grad_values, grad_kernel.transpose(0, 1)


def _parts(queries: Tensor, values: Tensor, workspace: int) -> list[slice]:
    """Parts of the batch whose lambdas, and a permuted copy of them, fit the workspace."""
    k, *size = queries.shape[2:]
    item = max(values.element_size(), 4)
    return list(chunks(len(queries), 2 * item * values.shape[2] * k * math.prod(size), workspace))


def _fold(values: Float[Tensor, "b u v *size"], dtype: torch.dtype) -> Float[Tensor, "bv u *size"]:
    return values.to(dtype).transpose(1, 2).flatten(0, 1)


def _lambdas(
    folded: Float[Tensor, "bv u *size"], kernel: Float[Tensor, "k u *scope"], v: int
) -> Float[Tensor, "b v k n"]:
    convolve = (conv1d, conv2d, conv3d)[kernel.ndim - 3]
    padding = [side // 2 for side in kernel.shape[2:]]
    return convolve(folded, kernel, padding=padding).flatten(2).unflatten(0, (-1, v))


def cost(problem: Problem) -> float:
    """2·b·n·|scope|·u·k·v for the lambdas, which are written once, permuted and read."""
    device = rates(problem.device)
    lambdas = problem.batch * problem.positions * problem.query_depth * problem.value_depth
    window = max(math.prod(problem.reachable_scope), _SMALLEST_WINDOW)
    forward = 2 * lambdas * window * problem.intra_depth
    moved = 2 * problem.item_bytes * lambdas
    # Both gradients of a convolution with so few channels, and the forward again: measured, 3 to 5.
    effort, passes = (4, 3) if problem.backward else (1, 1)
    if problem.batch * problem.value_depth <= _FEW_IMAGES:
        effort *= 3
    return (
        effort * forward / device.convolution_flops
        + passes * moved / device.bytes
        + passes * 20 * device.launch_seconds
    )


IMPLEMENTATION = Implementation("convolution", runs_everything, cost, run, gradients)
