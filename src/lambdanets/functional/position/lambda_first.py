"""Lambdas first: embeddings times the values of all images, then the queries; for many heads."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional._layout import chunks, product_precision
from lambdanets.functional.position._embeddings import (
    arrange,
    blocks,
    column_chunks,
    column_tables,
    context_reached,
    gather_context,
    of_column_tables,
    of_gather_context,
)
from lambdanets.functional.position._maps import Arrangement


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
) -> Float[Tensor, "b h v *size"]:
    """λ = e v for a row of queries and a part of the batch, applied at once and forgotten."""
    dtype, v = product_precision(values), values.shape[2]
    form = arrange(queries.shape[3:], table.shape[2:])
    embeddings_maps, output = form.table(table.to(dtype)), form.empty(queries, v)
    for columns in column_chunks(form, table, 1, workspace):
        embeddings = column_tables(form, embeddings_maps, columns, 1)
        for part in _parts(form, queries, values, workspace):
            asked, found = (_by_row(form.view(one[part])[..., columns]) for one in (queries, output))
            context = _side_by_side(gather_context(form.view(values[part]), form.scope[0], dtype))
            for row, near, offsets in _rows(form, len(table)):
                lambdas = _lambdas(embeddings[..., offsets], context[near], v)
                found[row].copy_(torch.einsum("mhkx,xkmv->mhvx", asked[row].to(dtype), lambdas))
    return form.crop(output, queries)


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
    form = arrange(queries.shape[3:], table.shape[2:])
    embeddings_maps = form.table(table.to(dtype))
    of_queries, of_values = form.empty(queries, queries.shape[2]), form.empty(values, v).to(exact).zero_()
    of_maps = torch.zeros_like(embeddings_maps, dtype=exact)
    for columns in column_chunks(form, table, 1, workspace):
        embeddings = column_tables(form, embeddings_maps, columns, 1)
        of_embeddings = torch.zeros_like(embeddings, dtype=exact)
        for part in _parts(form, queries, values, workspace):
            asked, outer, of_asked = (
                _by_row(form.view(one[part])[..., columns]) for one in (queries, gradient, of_queries)
            )
            value_maps = form.view(values[part])
            context = _side_by_side(gather_context(value_maps, form.scope[0], dtype))
            of_context = torch.zeros_like(context, dtype=exact)
            for row, near, offsets in _rows(form, len(table)):
                outer_row = outer[row].to(dtype)
                if needed[0]:
                    lambdas = _lambdas(embeddings[..., offsets], context[near], v)
                    of_asked[row].copy_(torch.einsum("mhvx,xkmv->mhkx", outer_row, lambdas))
                if needed[1] or needed[2]:
                    of_lambdas = torch.einsum("mhkx,mhvx->xkmv", asked[row].to(dtype), outer_row)
                    of_lambdas = of_lambdas.flatten(2).flatten(0, 1)
                if needed[1]:
                    of_context[near] += embeddings[..., offsets].flatten(0, 1).T @ of_lambdas
                if needed[2]:
                    of_embeddings[..., offsets] += (of_lambdas @ context[near].T).unflatten(
                        0, embeddings.shape[:2]
                    )
            if needed[1]:
                of_maps_v = of_context.unflatten(1, (-1, v)).transpose(0, 1)
                form.view(of_values[part]).add_(
                    of_gather_context(of_maps_v.contiguous(), value_maps, form.scope[0])
                )
        if needed[2]:
            of_maps += of_column_tables(form, of_embeddings, embeddings_maps, columns, 1)
    return form.crop(of_queries, queries), form.crop(of_values, values), form.of_table(of_maps, table)


def _by_row(
    tensor: Float[Tensor, "b h k slices rows columns"],
) -> Float[Tensor, "rows maps h k columns"]:
    """A view, where there is one slice."""
    return tensor.permute(4, 0, 3, 1, 2, 5).flatten(1, 2)


def _rows(form: Arrangement, u: int) -> Iterator[tuple[int, slice, slice]]:
    """Each row, its context and its embeddings of that."""
    for block in blocks(form, u, 1):
        yield block.rows.start, block.context, block.offsets[0]


def _side_by_side(context: Float[Tensor, "maps context v"]) -> Float[Tensor, "context maps_v"]:
    """All images beside each other."""
    return context.transpose(0, 1).flatten(1)


def _lambdas(
    embeddings: Float[Tensor, "columns k window"], context: Float[Tensor, "window maps_v"], v: int
) -> Float[Tensor, "columns k maps v"]:
    return (embeddings.flatten(0, 1) @ context).view(*embeddings.shape[:2], -1, v)


def _parts(form: Arrangement, queries: Tensor, values: Tensor, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose lambdas, with a permuted copy, and context fit half the workspace."""
    slices, rows, columns = form.size
    (u, v), k = values.shape[1:3], queries.shape[2]
    numbers = slices * v * (2 * columns * k + 2 * rows * columns * u * form.scope[0])
    return chunks(len(values), numbers * max(values.element_size(), 4), workspace // 2)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·n·u·k·v for each context element in reach of a row; no more for more heads."""
    device, b, form = rates(problem.device), problem.batch, arrange(problem.size, problem.reachable_scope)
    slices, rows, columns = form.size
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    window = context_reached(form, u, 1)
    flops = 2 * b * slices * columns * k * v * (window + rows * problem.heads)
    item = max(problem.item_bytes, 4) if problem.device == "cpu" else problem.item_bytes
    moved = 4 * item * b * slices * rows * columns * k * v
    passes, launches = (3, 12 * rows) if problem.backward else (1, 5 * rows)
    return passes * (flops / device.product_flops + moved / device.bytes) + launches * device.launch_seconds


IMPLEMENTATION = Implementation("lambda_first", why_not, cost, run, gradients)
