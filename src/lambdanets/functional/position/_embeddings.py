"""The table written out for each column of queries, so that embeddings of any row are a slice of it."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._layout import chunks
from lambdanets.functional.position._maps import Arrangement, fold, lift_sizes, near_slices, of_near_slices

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
