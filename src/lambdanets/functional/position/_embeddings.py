"""Dense embeddings by blocks of rows, and a block's gradient back in the table."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._chunks import chunks
from lambdanets.functional.relative_position import fold_axis


def product_precision(values: Tensor) -> torch.dtype:
    """What matrix products of these values are made in."""
    # Matrix products of a CPU in 16 bits are slow or inexact; a GPU's accumulate in 32.
    return torch.promote_types(values.dtype, torch.float32) if values.is_cpu else values.dtype


def by_rows(tensor: Float[Tensor, "b c d *size"]) -> Float[Tensor, "b c d rows rest"]:
    """The first axis of positions, and all the others as one: a view where the strides allow it."""
    return tensor.unsqueeze(-1).flatten(4)


def embedding_blocks(
    queries: Tensor, table: Float[Tensor, "u k *scope"], workspace: int
) -> Iterator[tuple[slice, Float[Tensor, "n k um"]]]:
    """Blocks of rows whose embeddings fit half the workspace; the last position of a block comes first."""
    (u, k), size = table.shape[:2], queries.shape[3:]
    margins = [(2 * length - 1 - side) // 2 for side, length in zip(table.shape[2:], size, strict=True)]
    windows = pad(table, [margin for margin in reversed(margins) for _ in range(2)])
    for axis, length in enumerate(size, start=2):
        # Window i of m offsets belongs to position length - 1 - i.
        windows = windows.unfold(axis, length, 1)
    axes = range(2, 2 + len(size))
    windows = windows.permute(*axes, 1, 0, *range(2 + len(size), windows.ndim))  # *size k u *size
    row_bytes = windows[:1].numel() * table.element_size()
    for rows in chunks(size[0], row_bytes, workspace // 2):
        block = windows[size[0] - rows.stop : size[0] - rows.start]
        yield rows, block.reshape(-1, k, u * math.prod(size))


def fold_block(
    of_embeddings: Float[Tensor, "n k um"], first: int, queries: Tensor, table: Tensor
) -> Float[Tensor, "u k *scope"]:
    """Sum a block's embeddings by offset, into the whole table."""
    size, scope = queries.shape[3:], table.shape[2:]
    axes = len(size)
    folded = of_embeddings.flip(0).unflatten(2, (table.shape[0], *size)).unflatten(0, (-1, *size[1:]))
    folded = folded.movedim((axes + 1, axes), (0, 1))  # u k *block *size
    for axis, (length, side) in enumerate(zip(size, scope, strict=True)):
        folded = folded.movedim((2, 2 + axes - axis), (-2, -1))
        block_length, start = (folded.shape[-2], first) if axis == 0 else (length, 0)
        folded = fold_axis(folded, block_length, length, side, start)
    return folded
