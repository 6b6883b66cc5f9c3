"""Sequences, maps and volumes as slices of rows of columns, for algorithms that know three axes alone.

Missing axes are of size one. The axes may take any order, since the sum over a window is one plain sum.
A long sequence is folded: row t, column x is its element t·width + x, and the offset between two elements
is that of their rows times the width plus that of their columns.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from lambdanets.functional._dispatch import Problem

_FOLDED_WIDTHS = (16, 32, 64, 128, 256)


class Arrangement(NamedTuple):
    """Which axis is which.

    Attributes:
        size: Slices, rows and columns.
        scope: Offsets along each of them.
        order: The axes of positions, among three, in the order slices, rows, columns.
        folded: The rows are parts of a sequence.
    """

    size: tuple[int, int, int]
    scope: tuple[int, int, int]
    order: tuple[int, int, int] = (0, 1, 2)
    folded: bool = False

    def view(self, tensor: Float[Tensor, "b c d *size"]) -> Float[Tensor, "b c d slices rows columns"]:
        """Any tensor of positions; a view, but for a sequence that does not fill its last row."""
        if self.folded:
            missing = self.size[1] * self.size[2] - tensor.shape[3]
            return (pad(tensor, (0, missing)) if missing else tensor).unflatten(3, self.size)
        return lift(tensor).permute(0, 1, 2, *(3 + axis for axis in self.order))

    def empty(self, like: Float[Tensor, "b c _ *size"], d: int) -> Float[Tensor, "b c d *padded"]:
        """An uninitialised result, channels last in memory: `view` writes to it, `crop` makes it one."""
        size = (self.size[1] * self.size[2],) if self.folded else like.shape[3:]
        return like.new_empty(like.shape[0], *size, like.shape[1], d).movedim((-2, -1), (1, 2))

    def crop(self, tensor: Float[Tensor, "b c d *padded"], like: Tensor) -> Float[Tensor, "b c d *size"]:
        """Cut off the end of the last row of a folded sequence."""
        return tensor[..., : like.shape[3]] if self.folded else tensor

    def table(self, table: Float[Tensor, "u k *scope"]) -> Float[Tensor, "u k slices rows columns"]:
        """Embeddings by the offsets of slices, rows and columns."""
        if not self.folded:
            return lift(table, leading=2).permute(0, 1, *(2 + axis for axis in self.order))
        folded = table.new_zeros(*table.shape[:2], *self.scope)
        for row, place, offsets in self._rows(table.shape[2]):
            folded[:, :, 0, row, place] = table[:, :, offsets]
        return folded

    def table_adjoint(
        self, folded: Float[Tensor, "u k slices rows columns"], table: Float[Tensor, "u k *scope"]
    ) -> Float[Tensor, "u k *scope"]:
        """The adjoint of `table`."""
        if not self.folded:
            inverse = (self.order.index(axis) for axis in range(3))
            return folded.permute(0, 1, *(2 + axis for axis in inverse)).reshape(table.shape)
        unfolded = torch.zeros_like(table, dtype=folded.dtype)
        for row, place, offsets in self._rows(table.shape[2]):
            unfolded[:, :, offsets] += folded[:, :, 0, row, place]
        return unfolded

    def _rows(self, side: int) -> Iterator[tuple[int, slice, slice]]:
        """For each offset of rows: its index, and the columns that stand for a part of the table."""
        _, rows, columns = self.scope
        width = self.size[2]
        for row in range(rows):
            first = (row - rows // 2) * width - columns // 2 + side // 2
            start, stop = max(0, first), min(side, first + columns)
            yield row, slice(start - first, stop - first), slice(start, stop)


def lift(tensor: Tensor, leading: int = 3) -> Tensor:
    """Axes of size one between the leading axes and those of positions, up to three of these."""
    return tensor.reshape(*tensor.shape[:leading], *lift_sizes(tensor.shape[leading:]))


def lift_sizes(sizes: tuple[int, ...]) -> tuple[int, int, int]:
    """Ones for the axes that are missing."""
    slices, rows, columns = (1,) * (3 - len(sizes)) + tuple(sizes)
    return slices, rows, columns


def arrangements(size: tuple[int, ...], scope: tuple[int, ...]) -> Iterator[Arrangement]:
    """Every order of the axes that differs from the others, and every width of a folded sequence."""
    sizes, scopes, missing = lift_sizes(size), lift_sizes(scope), 3 - len(size)
    # Axes of size one stay in front.
    for order in permutations(range(missing, 3)):
        z, y, x = (*range(missing), *order)
        yield Arrangement((sizes[z], sizes[y], sizes[x]), (scopes[z], scopes[y], scopes[x]), (z, y, x))
    if len(size) == 1:
        yield from (fold(size[0], scope[0], width) for width in _FOLDED_WIDTHS if 2 * width < size[0])


def fold(length: int, side: int, width: int) -> Arrangement:
    """A sequence in rows of a width, with the offsets of rows that its scope reaches."""
    rows = -(-length // width)
    reach = min(rows - 1, (side // 2 + width - 1) // width)
    return Arrangement((1, rows, width), (1, 2 * reach + 1, 2 * width - 1), folded=True)


def window_slices(
    values: Float[Tensor, "b u v slices rows columns"], side: int
) -> Float[Tensor, "b u v slices rows columns side"]:
    """For each slice those that its window reaches: beside the intra-depth, a sum like that over it."""
    return pad(values, (0, 0, 0, 0, side // 2, side // 2)).unfold(3, side, 1)


def window_slices_adjoint(
    windows: Float[Tensor, "b u v slices rows columns side"],
) -> Float[Tensor, "b u v slices rows columns"]:
    """The adjoint of `window_slices`: what the windows share is summed."""
    side, slices = windows.shape[6], windows.shape[3]
    if side == 1:
        return windows[..., 0]
    padded = windows.new_zeros(*windows.shape[:3], slices + side - 1, *windows.shape[4:6])
    for offset in range(side):
        padded[:, :, :, offset : offset + slices] += windows[..., offset]
    return padded[:, :, :, side // 2 : side // 2 + slices]


def are_finite(
    problem: Problem, products: Sequence[Sequence[Float[Tensor, "b _ _ *size"]]]
) -> Bool[Tensor, " b"] | None:
    """Which images have numbers that are all finite, or windows that all hold them all; None: each.

    Forms that multiply what is out of a window by zero would carry others into it. A GPU, which would have to
    be waited for, is not asked.
    """
    if problem.is_global or problem.device != "cpu":
        return None
    tensors = [one for product in products for one in product]
    # A sum is finite if its terms are, but for sums that are too large.
    exact = torch.promote_types(problem.dtype, torch.float32)
    if all(math.isfinite(one.sum(dtype=exact)) for one in tensors):
        return None
    return torch.stack([one.flatten(1).isfinite().all(1) for one in tensors]).all(0)


def magnitudes(product: Sequence[Float[Tensor, "b _ _ *size"]]) -> Float[Tensor, " b *size"]:
    """The largest number at each position, whatever its sign and channel; multiplied, of several tensors."""
    largest = [one.abs().amax((1, 2)) for one in product]
    exact = torch.promote_types(largest[0].dtype, torch.float32)
    first, *others = (one.to(exact) for one in largest)
    for one in others:
        first = first * one
    return first


def largest_in_windows(
    magnitudes: Float[Tensor, " b *size"], scope: tuple[int, ...]
) -> Float[Tensor, " b *size"]:
    """For each position the largest number in the window around it; none is negative."""
    for axis, side in enumerate(scope, start=1):
        if side > 1:
            lines = magnitudes.movedim(axis, -1)
            pooled = max_pool1d(
                lines.reshape(len(lines), -1, lines.shape[-1]), side, stride=1, padding=side // 2
            )
            magnitudes = pooled.view(lines.shape).movedim(-1, axis)
    return magnitudes
