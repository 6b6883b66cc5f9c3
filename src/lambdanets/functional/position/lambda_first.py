"""Lambdas first: embeddings times the values of all images, then the queries; for many heads."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._chunks import chunks
from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional.position._embeddings import (
    by_rows,
    embedding_blocks,
    fold_block,
    product_precision,
)


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
) -> Float[Tensor, "b h v *size"]:
    """λ = e v for a block of rows of queries and a part of the batch, applied at once and forgotten."""
    dtype = product_precision(values)
    output = queries.new_empty(*queries.shape[:2], values.shape[2], *queries.shape[3:])
    for rows, embeddings in embedding_blocks(queries, table.to(dtype), workspace):
        for part in _parts(embeddings, values, workspace):
            lambdas = _lambdas(embeddings, _context(values[part].to(dtype)), values.shape[2])
            asked = by_rows(queries)[part, ..., rows, :].to(dtype).flatten(3).flip(-1)
            block = by_rows(output)[part, ..., rows, :]
            block.copy_(torch.einsum("bhkn,nkbv->bhvn", asked, lambdas).flip(-1).view_as(block))
    return output


def gradients(
    gradient: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needed: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq = λ dy with λ computed again; of dλ = Σ_h q dyᵀ both factors: dv = eᵀ dλ, de = dλ vᵀ."""
    dtype, v = product_precision(values), values.shape[2]
    exact = torch.promote_types(dtype, torch.float32)
    of_queries = torch.empty_like(queries, memory_format=torch.contiguous_format)
    of_values, of_table = torch.zeros_like(values, dtype=exact), torch.zeros_like(table, dtype=exact)
    for rows, embeddings in embedding_blocks(queries, table.to(dtype), workspace):
        of_embeddings = torch.zeros_like(embeddings, dtype=exact)
        for part in _parts(embeddings, values, workspace):
            context = _context(values[part].to(dtype))  # um bv
            outer = by_rows(gradient)[part, ..., rows, :].to(dtype).flatten(3).flip(-1)
            if needed[0]:
                block = by_rows(of_queries)[part, ..., rows, :]
                found = torch.einsum("bhvn,nkbv->bhkn", outer, _lambdas(embeddings, context, v))
                block.copy_(found.flip(-1).view_as(block))
            if needed[1] or needed[2]:
                asked = by_rows(queries)[part, ..., rows, :].to(dtype).flatten(3).flip(-1)
                of_lambdas = torch.einsum("bhkn,bhvn->nkbv", asked, outer).flatten(2).flatten(0, 1)
            if needed[1]:
                of_values[part] += _from_context(embeddings.flatten(0, 1).T @ of_lambdas, values[part])
            if needed[2]:
                of_embeddings += (of_lambdas @ context.T).view_as(embeddings)
        if needed[2]:
            of_table += fold_block(of_embeddings, rows.start, queries, table)
    return of_queries, of_values, of_table


def _context(values: Float[Tensor, "b u v *size"]) -> Float[Tensor, "um bv"]:
    """All images beside each other."""
    return values.flatten(3).permute(1, 3, 0, 2).flatten(2).flatten(0, 1)


def _from_context(
    context: Float[Tensor, "um bv"], values: Float[Tensor, "b u v *size"]
) -> Float[Tensor, "b u v *size"]:
    """The adjoint of `_context`."""
    b, u, v = values.shape[:3]
    return context.view(u, -1, b, v).permute(2, 0, 3, 1).reshape(values.shape)


def _lambdas(
    embeddings: Float[Tensor, "n k um"], context: Float[Tensor, "um bv"], v: int
) -> Float[Tensor, "n k b v"]:
    n, k, _ = embeddings.shape
    return (embeddings.flatten(0, 1) @ context).view(n, k, context.shape[1] // v, v)


def _parts(embeddings: Float[Tensor, "n k um"], values: Tensor, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose lambdas, with a permuted copy, and context fit half the workspace."""
    n, k, um = embeddings.shape
    image_bytes = values.shape[2] * (2 * n * k + um) * embeddings.element_size()
    return chunks(len(values), image_bytes, workspace // 2)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·n²·u·k·v for the lambdas, every pair whether in scope or not; no more for more heads."""
    device, n, b = rates(problem.device), problem.positions, problem.batch
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    flops = 2 * b * n * k * v * (n * u + problem.heads)
    item = max(problem.item_bytes, 4) if problem.device == "cpu" else problem.item_bytes
    moved = item * n * k * (b * v + n * u)
    passes = 3 if problem.backward else 1
    return passes * (flops / device.product_flops + moved / device.bytes + 10 * device.launch_seconds)


IMPLEMENTATION = Implementation("lambda_first", why_not, cost, run, gradients)
