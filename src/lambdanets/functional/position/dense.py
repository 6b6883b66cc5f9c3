"""Attention form: queries times embeddings, times values; two batched matrix products, no lambdas."""

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
    """s = Σ_k q e, then y = Σ_m s v: the same chain of products, its left pair first.

    Queries go by blocks of rows, which share their embeddings, and by parts of the batch.
    """
    dtype = product_precision(values)
    output = queries.new_empty(*queries.shape[:2], values.shape[2], *queries.shape[3:])
    for rows, embeddings in embedding_blocks(queries, table.to(dtype), workspace):
        for part in _parts(embeddings, values, queries.shape[1], workspace):
            asked = _by_position(by_rows(queries)[part, ..., rows, :].to(dtype))
            scores = torch.bmm(asked, embeddings)  # n bh um
            found = torch.bmm(scores.transpose(0, 1), _context(values[part].to(dtype), queries.shape[1]))
            block = by_rows(output)[part, ..., rows, :]
            block.copy_(_by_image(found, block))
    return output


def gradients(
    gradient: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needed: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """ds = dy vᵀ; dq = ds eᵀ, de = qᵀ ds and dR its sum by offset; dv = sᵀ dy with s computed again."""
    dtype, h = product_precision(values), queries.shape[1]
    exact = torch.promote_types(dtype, torch.float32)
    of_queries = torch.empty_like(queries, memory_format=torch.contiguous_format)
    of_context = torch.zeros_like(_context(values, 1), dtype=exact)  # b um v
    of_table = torch.zeros_like(table, dtype=exact)
    for rows, embeddings in embedding_blocks(queries, table.to(dtype), workspace):
        of_embeddings = torch.zeros_like(embeddings, dtype=exact)
        for part in _parts(embeddings, values, 2 * h, workspace):
            asked = _by_position(by_rows(queries)[part, ..., rows, :].to(dtype))  # n bh k
            outer = _by_head(by_rows(gradient)[part, ..., rows, :].to(dtype))  # bh n v
            if needed[0] or needed[2]:
                of_scores = torch.bmm(outer, _context(values[part].to(dtype), h).mT).transpose(
                    0, 1
                )  # n bh um
                block = by_rows(of_queries)[part, ..., rows, :]
                block.copy_(_by_image(torch.bmm(of_scores, embeddings.mT).transpose(0, 1), block))
                _accumulate(of_embeddings, asked.mT, of_scores)
            if needed[1]:
                scores = torch.bmm(asked, embeddings)  # n bh um
                found = torch.bmm(scores.permute(1, 2, 0), outer)  # bh um v
                of_context[part] += found.unflatten(0, (-1, h)).sum(1)
        if needed[2]:
            of_table += fold_block(of_embeddings, rows.start, queries, table)
    u = values.shape[1]
    of_values = of_context.unflatten(1, (u, -1)).transpose(2, 3).unflatten(-1, values.shape[3:])
    return of_queries, of_values, of_table


def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a batched product; without a copy of it where the precisions agree."""
    if total.dtype == left.dtype:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)


def _by_position(block: Float[Tensor, "b h k rows rest"]) -> Float[Tensor, "n bh k"]:
    """Queries position by position, the last one first, as `embedding_blocks` has the embeddings."""
    # Contiguous: batched products copy an operand whose items have no stride of one, item by item.
    return block.flatten(3).flip(-1).permute(3, 0, 1, 2).flatten(1, 2).contiguous()


def _by_head(block: Float[Tensor, "b h v rows rest"]) -> Float[Tensor, "bh n v"]:
    return block.flatten(3).flip(-1).transpose(2, 3).flatten(0, 1)


def _by_image(found: Float[Tensor, "bh n v"], block: Float[Tensor, "b h v rows rest"]) -> Tensor:
    """Undo the order of `_by_head`."""
    return found.unflatten(0, block.shape[:2]).transpose(2, 3).flip(-1).view_as(block)


def _context(values: Float[Tensor, "b u v *size"], h: int) -> Float[Tensor, "bh um v"]:
    """The values once for each head."""
    context = values.flatten(3).transpose(2, 3).flatten(1, 2)  # b um v
    return context.unsqueeze(1).expand(-1, h, -1, -1).flatten(0, 1)


def _parts(embeddings: Float[Tensor, "n k um"], values: Tensor, h: int, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose scores and repeated values fit half the workspace."""
    n, _, um = embeddings.shape
    image_bytes = h * um * (n + values.shape[2]) * embeddings.element_size()
    return chunks(len(values), image_bytes, workspace // 2)


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·n²·u·h·(k + v), every pair whether in scope or not; the scores are written and read twice."""
    device, n = rates(problem.device), problem.positions
    b, h, u = problem.batch, problem.heads, problem.intra_depth
    k, v = problem.query_depth, problem.value_depth
    pairs = b * n * n * u * h
    flops = 2 * pairs * (3 * k + 2 * v) if problem.backward else 2 * pairs * (k + v)
    item = max(problem.item_bytes, 4) if problem.device == "cpu" else problem.item_bytes
    moved = item * n * n * u * (b * h + k)
    passes = 2 if problem.backward else 1
    return flops / device.product_flops + passes * (moved / device.bytes + 10 * device.launch_seconds)


IMPLEMENTATION = Implementation("dense", why_not, cost, run, gradients)
