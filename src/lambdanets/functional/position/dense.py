"""Attention form: queries times embeddings, times values; two batched matrix products, no lambdas."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional._layout import chunks, product_precision
from lambdanets.functional.position._maps import Arrangement, fold, lift_sizes, near_slices, of_near_slices

# Rows whose scores are made at once: all of a small map, few of others, so that they stay in caches.
SMALL_MAP_ROWS, BLOCK_ROWS = 8, 4

# Longer sequences are folded to rows of this many elements.
FOLDED_WIDTH = 64


class Block(NamedTuple):
    """Rows of queries, and what their windows reach together.

    Attributes:
        rows: Of the map.
        context: Of the context, as `gather_context` orders it.
        offsets: Of `column_tables`, for each row: the embeddings of that context.
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
    form = arrange(queries.shape[3:], table.shape[2:])
    height = _height(form)
    embeddings_maps, output = form.table(table.to(dtype)), form.empty(queries, values.shape[2])
    for columns in column_chunks(form, table, height, workspace):
        embeddings = column_tables(form, embeddings_maps, columns, height)
        for part in _parts(form, queries, values, workspace):
            asked, found = (form.view(one[part])[..., columns] for one in (queries, output))
            context = gather_context(form.view(values[part]), form.scope[0], dtype)
            for block in blocks(form, len(table), height):
                of_rows = queries_by_row(asked[..., block.rows, :], dtype)
                scores = _by_map(_scores(of_rows, embeddings, block), len(context))
                write_maps(torch.bmm(scores, context[:, block.context]), found[..., block.rows, :])
    return form.crop(output, queries)


def gradients(
    gradient: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needed: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """ds = dy vᵀ; dq = ds eᵀ, de = qᵀ ds and dR its sum by offset; dv = sᵀ dy with s computed again."""
    dtype = product_precision(values)
    exact = torch.promote_types(dtype, torch.float32)
    form = arrange(queries.shape[3:], table.shape[2:])
    height = _height(form)
    embeddings_maps = form.table(table.to(dtype))
    of_queries = form.empty(queries, queries.shape[2])
    of_values = form.empty(values, values.shape[2]).to(exact).zero_()
    of_maps = torch.zeros_like(embeddings_maps, dtype=exact)
    for columns in column_chunks(form, table, height, workspace):
        embeddings = column_tables(form, embeddings_maps, columns, height)
        of_embeddings = torch.zeros_like(embeddings, dtype=exact)
        for part in _parts(form, queries, values, workspace):
            asked, outer, of_asked = (
                form.view(one[part])[..., columns] for one in (queries, gradient, of_queries)
            )
            value_maps = form.view(values[part])
            context = gather_context(value_maps, form.scope[0], dtype)
            of_context = torch.zeros_like(context, dtype=exact)
            for block in blocks(form, len(table), height):
                of_rows = queries_by_row(asked[..., block.rows, :], dtype)
                outer_maps = queries_by_map(outer[..., block.rows, :], dtype)
                if needed[0] or needed[2]:
                    of_scores = torch.bmm(outer_maps, context[:, block.context].mT)
                    by_row = _by_row(of_scores, of_rows)
                    found = _of_scores(by_row, of_rows, embeddings, of_embeddings, block)
                    write_rows(found, of_asked[..., block.rows, :])
                if needed[1]:
                    scores = _by_map(_scores(of_rows, embeddings, block), len(context))
                    of_context[:, block.context] += torch.bmm(scores.mT, outer_maps)
            if needed[1]:
                form.view(of_values[part]).add_(of_gather_context(of_context, value_maps, form.scope[0]))
        if needed[2]:
            of_maps += of_column_tables(form, of_embeddings, embeddings_maps, columns, height)
    return form.crop(of_queries, queries), form.crop(of_values, values), form.of_table(of_maps, table)


def _scores(
    asked: Float[Tensor, "rows columns maps_h k"], embeddings: Float[Tensor, "columns k padded"], block: Block
) -> Float[Tensor, "rows columns maps_h window"]:
    scores = asked.new_empty(*asked.shape[:3], block.context.stop - block.context.start)
    for row, offsets in enumerate(block.offsets):
        torch.bmm(asked[row], embeddings[..., offsets], out=scores[row])
    return scores


def _of_scores(
    of_scores: Float[Tensor, "rows columns maps_h window"],
    asked: Float[Tensor, "rows columns maps_h k"],
    embeddings: Float[Tensor, "columns k padded"],
    of_embeddings: Float[Tensor, "columns k padded"],
    block: Block,
) -> Float[Tensor, "rows columns maps_h k"]:
    """The queries' gradient; the embeddings' is added to what is there."""
    found = torch.empty_like(asked)
    for row, offsets in enumerate(block.offsets):
        torch.bmm(of_scores[row], embeddings[..., offsets].mT, out=found[row])
        of_embeddings[..., offsets] += torch.bmm(asked[row].mT, of_scores[row])
    return found


def _by_map(
    scores: Float[Tensor, "rows columns maps_h window"], maps: int
) -> Float[Tensor, "maps n_h window"]:
    """Every position's heads beside each other: a map's are one matrix, and the values need no copies."""
    return scores.flatten(0, 1).unflatten(1, (maps, -1)).transpose(0, 1).contiguous().flatten(1, 2)


def _by_row(
    scores: Float[Tensor, "maps n_h window"], like: Float[Tensor, "rows columns maps_h k"]
) -> Float[Tensor, "rows columns maps_h window"]:
    """Undo `_by_map`."""
    rows, columns = like.shape[:2]
    whole = scores.unflatten(1, (rows, columns, -1)).permute(1, 2, 0, 3, 4)
    return whole.contiguous().flatten(2, 3)


def _height(form: Arrangement) -> int:
    return form.size[1] if form.size[1] <= SMALL_MAP_ROWS else BLOCK_ROWS


def _parts(form: Arrangement, queries: Tensor, values: Tensor, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose scores and context, with their gradients, fit half the workspace."""
    slices, rows, columns = form.size
    height = _height(form)
    window = min(rows, form.scope[1] + height - 1) * form.scope[0] * values.shape[1] * columns
    context = rows * form.scope[0] * values.shape[1] * columns * values.shape[2]
    numbers = slices * (3 * queries.shape[1] * height * columns * window + 2 * context)
    return chunks(len(values), numbers * max(values.element_size(), 4), workspace // 2)


def arrange(size: tuple[int, ...], scope: tuple[int, ...]) -> Arrangement:
    """The axes as they are; long sequences in rows."""
    if len(size) == 1 and size[0] > FOLDED_WIDTH:
        return fold(size[0], scope[0], FOLDED_WIDTH)
    return Arrangement(lift_sizes(size), lift_sizes(scope))


def blocks(form: Arrangement, u: int, height: int) -> Iterator[Block]:
    """All rows, by blocks of a height."""
    _, length, width = form.size
    reach, step = form.scope[1] // 2, form.scope[0] * u * width
    for rows in chunks(length, 1, height):
        first, last = max(0, rows.start - reach), min(length, rows.stop + reach)
        shifts = (height - 1 + reach - row for row in range(rows.start, rows.stop))
        offsets = tuple(slice((first + shift) * step, (last + shift) * step) for shift in shifts)
        yield Block(rows, slice(first * step, last * step), offsets)


def context_reached(form: Arrangement, u: int, height: int) -> int:
    """Context elements of the blocks of all rows, summed."""
    all_blocks = blocks(form, u, height)
    return sum((one.context.stop - one.context.start) * len(one.offsets) for one in all_blocks)


def column_tables(
    form: Arrangement, table: Float[Tensor, "u k slices rows offsets"], columns: slice, height: int
) -> Float[Tensor, "columns k padded"]:
    """By (offset of rows, slice of the window, u, column of the context); zeros beside the scope.

    Enough of them for blocks of a height.
    """
    padded = _pad_table(form, table, height)
    width = form.size[2]
    windows = [padded[..., width - 1 - one : 2 * width - 1 - one] for one in range(*columns.indices(width))]
    return torch.stack(windows).flatten(2)


def of_column_tables(
    form: Arrangement,
    of_columns: Float[Tensor, "columns k padded"],
    table: Float[Tensor, "u k slices rows offsets"],
    columns: slice,
    height: int,
) -> Float[Tensor, "u k slices rows offsets"]:
    """The adjoint of `column_tables`."""
    padded = torch.zeros_like(_pad_table(form, table, height), dtype=of_columns.dtype)
    width = form.size[2]
    windows = of_columns.unflatten(2, (*padded.shape[1:4], width))
    for place, one in enumerate(range(*columns.indices(width))):
        padded[..., width - 1 - one : 2 * width - 1 - one] += windows[place]
    rows, offsets = table.shape[3:]
    left = (padded.shape[4] - offsets) // 2
    inside = padded[:, height - 1 : height - 1 + rows, ..., left : left + offsets]
    return inside.permute(3, 0, 2, 1, 4)


def _pad_table(
    form: Arrangement, table: Float[Tensor, "u k slices rows offsets"], height: int
) -> Float[Tensor, "k padded_rows slices u padded_offsets"]:
    left, margin = (2 * form.size[2] - 1 - table.shape[4]) // 2, height - 1
    return pad(table.permute(1, 3, 2, 0, 4), (left, left, 0, 0, 0, 0, margin, margin))


def column_chunks(form: Arrangement, table: Tensor, height: int, workspace: int) -> Iterator[slice]:
    """Columns whose embeddings, and their gradient, fit half the workspace."""
    (u, k), item = table.shape[:2], torch.promote_types(table.dtype, torch.float32).itemsize
    return chunks(form.size[2], 2 * item * embeddings_of_a_column(form, u, k, height), workspace // 2)


def embeddings_of_a_column(form: Arrangement, u: int, k: int, height: int) -> int:
    """Numbers of `column_tables` for one column."""
    return k * (form.scope[1] + 2 * height - 2) * form.scope[0] * u * form.size[2]


def gather_context(
    values: Float[Tensor, "b u v slices rows columns"], side: int, dtype: torch.dtype
) -> Float[Tensor, "maps context v"]:
    """By (row, slice of the window, u, column), for each slice of each image."""
    ordered = near_slices(values, side).permute(0, 3, 4, 6, 1, 5, 2)
    return ordered.to(dtype).flatten(0, 1).flatten(1, 4)


def of_gather_context(
    of_context: Float[Tensor, "maps context v"], values: Float[Tensor, "b u v slices rows columns"], side: int
) -> Float[Tensor, "b u v slices rows columns"]:
    """The adjoint of `gather_context`."""
    b, u, _, slices, rows, columns = values.shape
    ordered = of_context.view(b, slices, rows, side, u, columns, -1)
    return of_near_slices(ordered.permute(0, 4, 6, 1, 2, 5, 3))


def queries_by_map(
    tensor: Float[Tensor, "b h k slices rows columns"], dtype: torch.dtype
) -> Float[Tensor, "maps n_h k"]:
    """A view, where channels are last in memory and the rows are all rows."""
    by_position = tensor.permute(0, 3, 4, 5, 1, 2).to(dtype).contiguous()
    return by_position.flatten(0, 1).flatten(1, 3)


def write_maps(found: Float[Tensor, "maps n_h k"], out: Float[Tensor, "b h k slices rows columns"]) -> None:
    """Undo `queries_by_map`."""
    by_position = out.permute(0, 3, 4, 5, 1, 2)
    by_position.copy_(found.view(by_position.shape))


def queries_by_row(
    tensor: Float[Tensor, "b h k slices rows columns"], dtype: torch.dtype
) -> Float[Tensor, "rows columns maps_h k"]:
    """Contiguous: batched products copy an operand whose items have no stride of one, item by item."""
    by_position = tensor.permute(0, 3, 4, 5, 1, 2).to(dtype).contiguous()
    return by_position.permute(2, 3, 0, 1, 4, 5).contiguous().flatten(2, 4)


def write_rows(
    found: Float[Tensor, "rows columns maps_h k"], out: Float[Tensor, "b h k slices rows columns"]
) -> None:
    """Undo `queries_by_row`."""
    by_row = out.permute(4, 5, 0, 3, 1, 2)
    by_row.copy_(found.view(by_row.shape))


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """2·b·n·u·h·(k + v) for each context element in reach of a block of rows."""
    device, form = rates(problem.device), arrange(problem.size, problem.reachable_scope)
    slices, rows, columns = form.size
    b, h, u = problem.batch, problem.heads, problem.intra_depth
    k, v = problem.query_depth, problem.value_depth
    pairs = b * h * slices * columns * context_reached(form, u, _height(form))
    flops = 2 * pairs * (3 * k + 2 * v) if problem.backward else 2 * pairs * (k + v)
    item = max(problem.item_bytes, 4) if problem.device == "cpu" else problem.item_bytes
    # Scores are written, permuted and read; in backward so are their gradients.
    passes, launches = (6, 4 * rows + 30) if problem.backward else (3, 2 * rows + 20)
    return (
        flops / device.product_flops + passes * item * pairs / device.bytes + launches * device.launch_seconds
    )


IMPLEMENTATION = Implementation("dense", why_not, cost, run, gradients)
