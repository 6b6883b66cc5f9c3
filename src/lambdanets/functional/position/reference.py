"""The specification: dense embeddings, position lambdas, applied; plain and obvious."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional.lambdas import apply_lambdas, position_lambdas
from lambdanets.functional.position._maps import are_finite
from lambdanets.functional.relative_position import dense_embeddings, fold_embeddings


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int = 0,
) -> Float[Tensor, "b h v *size"]:
    """yₙ = (Σₘ eₙₘ vₘᵀ)ᵀ qₙ, in the paper's order and at least in float32; in whatever memory it takes."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    size = queries.shape[3:]
    embeddings = dense_embeddings(table.to(dtype), tuple(size))
    lambdas = position_lambdas(values.to(dtype).flatten(3), embeddings)
    output = apply_lambdas(queries.to(dtype).flatten(3), lambdas)
    return output.unflatten(-1, size).to(queries.dtype)


def gradients(
    grad_out: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needs_grad: Sequence[bool],
    workspace: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq = λ dy; dλ = Σ_h q dyᵀ; of dλ both factors: dv = eᵀ dλ, de = dλ v; dR is de summed by offset."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    size = tuple(queries.shape[3:])
    embeddings = dense_embeddings(table.to(dtype), size)
    context = values.to(dtype).flatten(3)
    grad = grad_out.to(dtype).flatten(3)
    lambdas = position_lambdas(context, embeddings)
    grad_queries = torch.einsum("bhvn,bnkv->bhkn", grad, lambdas)
    grad_lambdas = torch.einsum("bhkn,bhvn->bnkv", queries.to(dtype).flatten(3), grad)
    grad_values = torch.einsum("nmuk,bnkv->buvm", embeddings, grad_lambdas)
    grad_embeddings = torch.einsum("bnkv,buvm->nmuk", grad_lambdas, context)
    return (
        grad_queries.unflatten(-1, size),
        grad_values.unflatten(-1, size),
        fold_embeddings(grad_embeddings, size, tuple(table.shape[2:])),
    )


def cost(problem: Problem) -> float:
    """Every pair, lambda-first: 2·b·n²·u·k·v, with the embeddings and the lambdas in memory."""
    device, n = rates(problem.device), problem.positions
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    flops = 2 * problem.batch * n * k * v * (n * u + problem.heads)
    moved = 4 * max(problem.item_bytes, 4) * n * k * (n * u + problem.batch * v)
    passes = 3 if problem.backward else 1
    # The reference is read more than it is run: never the choice where another can serve.
    return 10 * passes * (flops / device.product_flops + moved / device.bytes + 20 * device.launch_seconds)


IMPLEMENTATION = Implementation("reference", runs_everything, cost, run, gradients, are_finite)
