"""Attention layout: queries times embeddings, times values; two batched matrix products, no lambdas."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional._layout import chunks, product_precision
from lambdanets.functional.position._maps import (
    Arrangement,
    are_finite,
    fold,
    lift_sizes,
    window_slices,
    window_slices_adjoint,
)

# Rows whose scores are made at once: all of a small map, few of others, so that they stay in caches.
SMALL_MAP_ROWS, BLOCK_ROWS = 8, 4

# Longer sequences are folded to rows of this many elements.
_FOLDED_WIDTH = 64


class _Block(NamedTuple):
    """Rows of queries, and what their windows reach together.

    Attributes:
        rows: Rows of the map.
        context: Their context, as `_gather_context` orders it.
        offsets: For each row the embeddings of that context, as `_column_tables` orders them.
    """

    rows: slice
    context: slice
    offsets: tuple[slice, ...]


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
) -> Float[Tensor, "b h v *size"]:
    """s = Σ_k q e, then y = Σ_m s v: the same chain of products, its left pair first.

    Queries go by blocks of rows, which share their context, and by parts of the batch.
    """
    dtype = product_precision(values)
    layout = _arrange(queries.shape[3:], table.shape[2:])
    table_maps, output = layout.table(table.to(dtype)), layout.empty(queries, values.shape[2])
    for columns in _column_chunks(layout, table, workspace):
        embeddings = _column_tables(layout, table_maps, columns)
        for part in _parts(layout, queries, values, workspace):
            q, out = (layout.view(one[part])[..., columns] for one in (queries, output))
            context = _gather_context(layout.view(values[part]), layout.scope[0], dtype)
            for block in _blocks(layout, len(table)):
                q_rows = _by_row(_by_position(q[..., block.rows, :]).to(dtype))
                scores = _by_map(_scores(q_rows, embeddings, block), len(context))
                out_rows = _by_position(out[..., block.rows, :])
                out_rows.copy_(torch.bmm(scores, context[:, block.context]).view(out_rows.shape))
    return layout.crop(output, queries)


def gradients(
    grad_out: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needs_grad: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """ds = dy vᵀ; dq = ds eᵀ, de = qᵀ ds and dR its sum by offset; dv = sᵀ dy with s computed again."""
    dtype = product_precision(values)
    exact = torch.promote_types(dtype, torch.float32)
    layout = _arrange(queries.shape[3:], table.shape[2:])
    table_maps = layout.table(table.to(dtype))
    grad_queries = layout.empty(queries, queries.shape[2])
    grad_values = layout.empty(values, values.shape[2]).to(exact).zero_()
    grad_table_maps = torch.zeros_like(table_maps, dtype=exact)
    for columns in _column_chunks(layout, table, workspace):
        embeddings = _column_tables(layout, table_maps, columns)
        grad_embeddings = torch.zeros_like(embeddings, dtype=exact)
        for part in _parts(layout, queries, values, workspace):
            q, grad, grad_q = (
                layout.view(one[part])[..., columns] for one in (queries, grad_out, grad_queries)
            )
            value_maps = layout.view(values[part])
            context = _gather_context(value_maps, layout.scope[0], dtype)
            grad_context = torch.zeros_like(context, dtype=exact)
            for block in _blocks(layout, len(table)):
                q_rows = _by_row(_by_position(q[..., block.rows, :]).to(dtype))
                # A view, where channels are last in memory and the rows are all rows.
                grad_maps = _by_position(grad[..., block.rows, :]).to(dtype).contiguous()
                grad_maps = grad_maps.flatten(0, 1).flatten(1, 3)
                if needs_grad[0] or needs_grad[2]:
                    grad_scores = torch.bmm(grad_maps, context[:, block.context].mT)
                    grad_scores = grad_scores.unflatten(1, (*q_rows.shape[:2], -1))  # undo `_by_map`
                    grad_scores = grad_scores.permute(1, 2, 0, 3, 4).contiguous().flatten(2, 3)
                    grad_q_rows = _scores_backward(grad_scores, q_rows, embeddings, grad_embeddings, block)
                    grad_out_rows = grad_q[..., block.rows, :].permute(4, 5, 0, 3, 1, 2)
                    grad_out_rows.copy_(grad_q_rows.view(grad_out_rows.shape))
                if needs_grad[1]:
                    scores = _by_map(_scores(q_rows, embeddings, block), len(context))
                    grad_context[:, block.context] += torch.bmm(scores.mT, grad_maps)
            if needs_grad[1]:
                layout.view(grad_values[part]).add_(
                    _gather_context_adjoint(grad_context, value_maps, layout.scope[0])
                )
        if needs_grad[2]:
            grad_table_maps += _column_tables_adjoint(layout, grad_embeddings, table_maps, columns)
    return (
        layout.crop(grad_queries, queries),
        layout.crop(grad_values, values),
        layout.table_adjoint(grad_table_maps, table),
    )


def _scores(
    q: Float[Tensor, "rows columns maps_h k"], embeddings: Float[Tensor, "columns k padded"], block: _Block
) -> Float[Tensor, "rows columns maps_h window"]:
    scores = q.new_empty(*q.shape[:3], block.context.stop - block.context.start)
    for row, offsets in enumerate(block.offsets):
        torch.bmm(q[row], embeddings[..., offsets], out=scores[row])
    return scores


def _scores_backward(
    grad_scores: Float[Tensor, "rows columns maps_h window"],
    q: Float[Tensor, "rows columns maps_h k"],
    embeddings: Float[Tensor, "columns k padded"],
    grad_embeddings: Float[Tensor, "columns k padded"],
    block: _Block,
) -> Float[Tensor, "rows columns maps_h k"]:
    """The queries' gradient; the embeddings' is added to what is there."""
    grad_q = torch.empty_like(q)
    for row, offsets in enumerate(block.offsets):
        torch.bmm(grad_scores[row], embeddings[..., offsets].mT, out=grad_q[row])
        grad_embeddings[..., offsets] += torch.bmm(q[row].mT, grad_scores[row])
    return grad_q


def _by_map(
    scores: Float[Tensor, "rows columns maps_h window"], maps: int
) -> Float[Tensor, "maps n_h window"]:
    """Every position's heads beside each other: a map's are one matrix, and the values need no copies."""
    return scores.flatten(0, 1).unflatten(1, (maps, -1)).transpose(0, 1).contiguous().flatten(1, 2)


def _height(layout: Arrangement) -> int:
    return layout.size[1] if layout.size[1] <= SMALL_MAP_ROWS else BLOCK_ROWS


def _parts(layout: Arrangement, queries: Tensor, values: Tensor, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose scores and context, with their gradients, fit half the workspace."""
    slices, rows, columns = layout.size
    height = _height(layout)
    window = min(rows, layout.scope[1] + height - 1) * layout.scope[0] * values.shape[1] * columns
    context = rows * layout.scope[0] * values.shape[1] * columns * values.shape[2]
    numbers = slices * (3 * queries.shape[1] * height * columns * window + 2 * context)
    return chunks(len(values), numbers * max(values.element_size(), 4), workspace // 2)


def _arrange(size: tuple[int, ...], scope: tuple[int, ...]) -> Arrangement:
    """The axes as they are; long sequences in rows."""
    if len(size) == 1 and size[0] > _FOLDED_WIDTH:
        return fold(size[0], scope[0], _FOLDED_WIDTH)
    return Arrangement(lift_sizes(size), lift_sizes(scope))


def _blocks(layout: Arrangement, u: int) -> Iterator[_Block]:
    """All rows, by blocks."""
    (_, length, width), height = layout.size, _height(layout)
    reach, step = layout.scope[1] // 2, layout.scope[0] * u * width
    for rows in chunks(length, 1, height):
        first, last = max(0, rows.start - reach), min(length, rows.stop + reach)
        shifts = (height - 1 + reach - row for row in range(rows.start, rows.stop))
        offsets = tuple(slice((first + shift) * step, (last + shift) * step) for shift in shifts)
        yield _Block(rows, slice(first * step, last * step), offsets)


def _column_tables(
    layout: Arrangement, table: Float[Tensor, "u k slices rows offsets"], columns: slice
) -> Float[Tensor, "columns k padded"]:
    """By (offset of rows, slice of the window, u, column of the context); zeros beside the scope."""
    padded = _pad_table(layout, table)
    width = layout.size[2]
    windows = [padded[..., width - 1 - one : 2 * width - 1 - one] for one in range(*columns.indices(width))]
    return torch.stack(windows).flatten(2)


def _column_tables_adjoint(
    layout: Arrangement,
    grad_columns: Float[Tensor, "columns k padded"],
    table: Float[Tensor, "u k slices rows offsets"],
    columns: slice,
) -> Float[Tensor, "u k slices rows offsets"]:
    """The adjoint of `_column_tables`."""
    padded = torch.zeros_like(_pad_table(layout, table), dtype=grad_columns.dtype)
    width, margin = layout.size[2], _height(layout) - 1
    windows = grad_columns.unflatten(2, (*padded.shape[1:4], width))
    for place, one in enumerate(range(*columns.indices(width))):
        padded[..., width - 1 - one : 2 * width - 1 - one] += windows[place]
    rows, offsets = table.shape[3:]
    left = (padded.shape[4] - offsets) // 2
    inside = padded[:, margin : margin + rows, ..., left : left + offsets]
    return inside.permute(3, 0, 2, 1, 4)


def _pad_table(
    layout: Arrangement, table: Float[Tensor, "u k slices rows offsets"]
) -> Float[Tensor, "k padded_rows slices u padded_offsets"]:
    """Zeros for the offsets that a row reaches beside the scope, and for those of the rows of its block."""
    left, margin = (2 * layout.size[2] - 1 - table.shape[4]) // 2, _height(layout) - 1
    return pad(table.permute(1, 3, 2, 0, 4), (left, left, 0, 0, 0, 0, margin, margin))


def _column_chunks(layout: Arrangement, table: Tensor, workspace: int) -> Iterator[slice]:
    """Columns whose embeddings, and their gradient, fit half the workspace."""
    (u, k), item = table.shape[:2], torch.promote_types(table.dtype, torch.float32).itemsize
    numbers = k * (layout.scope[1] + 2 * _height(layout) - 2) * layout.scope[0] * u * layout.size[2]
    return chunks(layout.size[2], 2 * item * numbers, workspace // 2)


def _gather_context(
    values: Float[Tensor, "b u v slices rows columns"], side: int, dtype: torch.dtype
) -> Float[Tensor, "maps context v"]:
    """By (row, slice of the window, u, column), for each slice of each image."""
    ordered = window_slices(values, side).permute(0, 3, 4, 6, 1, 5, 2)
    return ordered.to(dtype).flatten(0, 1).flatten(1, 4)


def _gather_context_adjoint(
    grad_context: Float[Tensor, "maps context v"],
    values: Float[Tensor, "b u v slices rows columns"],
    side: int,
) -> Float[Tensor, "b u v slices rows columns"]:
    """The adjoint of `_gather_context`."""
    b, u, _, slices, rows, columns = values.shape
    ordered = grad_context.view(b, slices, rows, side, u, columns, -1)
    return window_slices_adjoint(ordered.permute(0, 4, 6, 1, 2, 5, 3))


def _by_position(
    tensor: Float[Tensor, "b c d slices rows columns"],
) -> Float[Tensor, "b slices rows columns c d"]:
    return tensor.permute(0, 3, 4, 5, 1, 2)


def _by_row(
    by_position: Float[Tensor, "b slices rows columns h k"],
) -> Float[Tensor, "rows columns maps_h k"]:
    """Contiguous: batched products copy an operand whose items have no stride of one, item by item."""
    return by_position.contiguous().permute(2, 3, 0, 1, 4, 5).contiguous().flatten(2, 4)


def cost(problem: Problem) -> float:
    """2·b·n·u·h·(k + v) for each context element in reach of a block of rows."""
    device, layout = rates(problem.device), _arrange(problem.size, problem.reachable_scope)
    slices, rows, columns = layout.size
    b, h, u = problem.batch, problem.heads, problem.intra_depth
    k, v = problem.query_depth, problem.value_depth
    blocks = _blocks(layout, u)
    context = sum((block.context.stop - block.context.start) * len(block.offsets) for block in blocks)
    pairs = b * h * slices * columns * context
    flops = 2 * pairs * (3 * k + 2 * v) if problem.backward else 2 * pairs * (k + v)
    item = max(problem.item_bytes, 4) if problem.device == "cpu" else problem.item_bytes
    # Scores are written, permuted and read; in backward so are their gradients.
    passes, launches = (6, 4 * rows + 30) if problem.backward else (3, 2 * rows + 20)
    return (
        flops / device.product_flops + passes * item * pairs / device.bytes + launches * device.launch_seconds
    )


IMPLEMENTATION = Implementation("dense", runs_everything, cost, run, gradients, are_finite)
