"""A Fourier transform along the columns and a direct sum along the rows, both as real matrix products.

Row by row: the spectra of the lambdas of one row, from those of the values in its window; the right half of
the row back from real parts (even) and from imaginary parts (odd), whose sum are the lambdas there and whose
difference those of the flipped left half; both are applied to the queries of both halves.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, describe, rates
from lambdanets.functional._layout import chunks
from lambdanets.functional.position._dft import (
    DFT,
    dft_matrices,
    frequencies,
    negate_left,
    split_halves,
    table_spectrum,
    table_spectrum_adjoint,
    values_spectrum,
    values_spectrum_adjoint,
    write_halves,
)
from lambdanets.functional.position._maps import Arrangement, arrangements, largest_in_windows, magnitudes

# Rows whose queries are rearranged at once.
BLOCK_ROWS = 8

# The most that the largest number of a row may be, relative to the largest of a window: so much larger is
# what is wrong there. Measured: an error of up to 6e-7 of what is largest in the row.
_LARGEST_SPREAD = 16

# Spectra and lambdas that stay in a processor's nearest caches: the rows of a step fill no more.
_STEP_BYTES = 2 << 20

# Calls of torch for a row, as time that they take: for the output, and for the gradients.
LAUNCHES, BACKWARD_LAUNCHES = 5, 12

# The most that cosines and sines may take; they are kept from call to call.
_LARGEST_TRANSFORM_BYTES = 16 << 20


class _Step(NamedTuple):
    """A few rows of a block, and for each its window: that part of the context, and of the table."""

    rows: slice
    windows: list[tuple[slice, slice]]


class _Scratch(NamedTuple):
    """Buffers that every step of a part of the batch reuses; the even and the odd part of each.

    Attributes:
        spectra: Spectra of the lambdas, or of their gradients.
        lambdas: Lambdas of the right half of each row.
        basis: Cosines and sines, from the first to the second.
    """

    spectra: Float[Tensor, "2 rows f maps_v k"]
    lambdas: Float[Tensor, "2 rows half_maps v k"]
    basis: Float[Tensor, "2 rows half f"]

    def first(self, rows: int) -> "_Scratch":
        """For a step of fewer rows."""
        return self if rows == self.spectra.shape[1] else _Scratch(*(one[:, :rows].clone() for one in self))

    def transform(self) -> None:
        """From spectra to lambdas."""
        out = self.lambdas.view(*self.basis.shape[:3], -1).flatten(0, 1)
        torch.bmm(self.basis.flatten(0, 1), self.spectra.flatten(3).flatten(0, 1), out=out)

    def transform_back(self) -> None:
        """The adjoint of `transform`."""
        lambdas = self.lambdas.view(*self.basis.shape[:3], -1).flatten(0, 1)
        torch.bmm(self.basis.flatten(0, 1).mT, lambdas, out=self.spectra.flatten(3).flatten(0, 1))


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
) -> Float[Tensor, "b h v *size"]:
    """λ̂ = R̂ v̂ for each row and frequency; λ back; the queries."""
    layout = _layout_of(describe(queries, values, table))
    basis = _basis(layout, values)
    embeddings = table_spectrum(layout.table(table), basis)
    output = layout.empty(queries, values.shape[2])
    for part in _parts(layout, queries, values, workspace):
        q, out = layout.view(queries[part]), layout.view(output[part])
        context = values_spectrum(layout.view(values[part]), layout.scope[0], basis)
        scratch = _scratch(layout, context, embeddings, basis, values.shape[2])
        for block, steps in _blocks(layout, context, scratch):
            q_rows = split_halves(q[..., block, :], context.dtype)
            signed = negate_left(q_rows)
            applied = q_rows.new_empty(*q_rows.shape[:-1], values.shape[2])
            for step in steps:
                used = scratch.first(len(step.windows))
                _make_lambdas(used, context, embeddings, step)
                _apply(used.lambdas.mT, q_rows[step.rows], signed[step.rows], applied[step.rows])
            write_halves(applied, out[..., block, :])
    return layout.crop(output, queries)


def gradients(
    grad_out: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needs_grad: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq = λ dy with λ computed again; of dλ = Σ_h q dyᵀ the transposed products, in the same order."""
    layout = _layout_of(describe(queries, values, table, backward=True))
    basis = _basis(layout, values)
    table_maps = layout.table(table)
    embeddings = table_spectrum(table_maps, basis)
    grad_embeddings = torch.zeros_like(embeddings)
    grad_queries, grad_values = (layout.empty(one, one.shape[2]) for one in (queries, values))
    for part in _parts(layout, queries, values, workspace):
        q, grad = layout.view(queries[part]), layout.view(grad_out[part])
        context_maps, grad_q = layout.view(values[part]), layout.view(grad_queries[part])
        context = values_spectrum(context_maps, layout.scope[0], basis)
        grad_context = torch.zeros_like(context)
        scratch = _scratch(layout, context, embeddings, basis, values.shape[2])
        for block, steps in _blocks(layout, context, scratch):
            q_rows, grad_rows = (split_halves(one[..., block, :], context.dtype) for one in (q, grad))
            signed = negate_left(grad_rows)
            applied = torch.empty_like(q_rows)
            for step in steps:
                used = scratch.first(len(step.windows))
                q_step, grad_step, signed_step = (one[step.rows] for one in (q_rows, grad_rows, signed))
                if needs_grad[0]:
                    _make_lambdas(used, context, embeddings, step)
                    _apply(used.lambdas, grad_step, signed_step, applied[step.rows])
                if needs_grad[1] or needs_grad[2]:
                    # The sum over the heads of both halves.
                    even, odd = used.lambdas.flatten(1, 2)
                    torch.bmm(grad_step.flatten(0, 2).mT, q_step.flatten(0, 2), out=even)
                    torch.bmm(signed_step.flatten(0, 2).mT, q_step.flatten(0, 2), out=odd)
                    used.transform_back()
                    _add_gradients(used, context, embeddings, grad_context, grad_embeddings, step, needs_grad)
            if needs_grad[0]:
                write_halves(applied, grad_q[..., block, :])
        if needs_grad[1]:
            back = values_spectrum_adjoint(grad_context, context_maps, layout.scope[0], basis)
            layout.view(grad_values[part]).copy_(back)
    grad_table = layout.table_adjoint(table_spectrum_adjoint(grad_embeddings, table_maps, basis), table)
    return layout.crop(grad_queries, queries), layout.crop(grad_values, values), grad_table


def _make_lambdas(
    scratch: _Scratch,
    context: Float[Tensor, "f context maps_v"],
    embeddings: Float[Tensor, "2 f window k"],
    step: _Step,
) -> None:
    even, odd = scratch.spectra
    for row, (rows_in_reach, offsets) in enumerate(step.windows):
        window, table = context[:, rows_in_reach].mT, embeddings[:, :, offsets]
        torch.bmm(window, table[0], out=even[row])
        torch.bmm(window, table[1], out=odd[row])
    scratch.transform()


def _apply(
    lambdas: Float[Tensor, "2 rows half_maps d e"],
    q: Float[Tensor, "rows half maps sides_h d"],
    signed: Float[Tensor, "rows half maps sides_h d"],
    out: Float[Tensor, "rows half maps sides_h e"],
) -> None:
    even, odd = lambdas.flatten(1, 2)
    flat = out.flatten(0, 2)
    torch.bmm(q.flatten(0, 2), even, out=flat)
    flat.baddbmm_(signed.flatten(0, 2), odd)


def _add_gradients(
    scratch: _Scratch,
    context: Float[Tensor, "f context maps_v"],
    embeddings: Float[Tensor, "2 f window k"],
    grad_context: Float[Tensor, "f context maps_v"],
    grad_embeddings: Float[Tensor, "2 f window k"],
    step: _Step,
    needs_grad: Sequence[bool],
) -> None:
    even, odd = scratch.spectra
    for row, (rows_in_reach, offsets) in enumerate(step.windows):
        if needs_grad[1]:
            table = embeddings[:, :, offsets]
            # Added to a slice, a product would go frequency by frequency: a product of its own, then the sum.
            product = torch.bmm(table[0], even[row].mT).baddbmm_(table[1], odd[row].mT)
            grad_context[:, rows_in_reach] += product
        if needs_grad[2]:
            window, grad_table = context[:, rows_in_reach], grad_embeddings[:, :, offsets]
            grad_table[0] += torch.bmm(window, even[row])
            grad_table[1] += torch.bmm(window, odd[row])


def _basis(layout: Arrangement, values: Tensor) -> DFT:
    dtype = torch.promote_types(values.dtype, torch.float32)
    return dft_matrices(layout.size[2], layout.scope[2], dtype, values.device)


def _parts(layout: Arrangement, queries: Tensor, values: Tensor, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose spectra, with their gradients, and lambdas of a row fit the workspace."""
    (h, k), (u, v) = queries.shape[1:3], values.shape[1:3]
    slices, rows, columns = layout.size
    f, window = frequencies(columns, layout.scope[2]), u * layout.scope[0]
    spectra = 2 * f * window * v * (4 * rows + min(rows, layout.scope[1]))
    lambdas = (2 * f + columns) * k * v
    rearranged = 3 * min(rows, BLOCK_ROWS) * columns * h * (k + v)
    item = torch.promote_types(values.dtype, torch.float32).itemsize
    return chunks(len(values), slices * item * (spectra + lambdas + rearranged), workspace)


def _scratch(
    layout: Arrangement,
    context: Float[Tensor, "f context maps_v"],
    embeddings: Float[Tensor, "2 f window k"],
    basis: DFT,
    v: int,
) -> _Scratch:
    f, _, maps_v = context.shape
    k, half = embeddings.shape[3], len(basis.even)
    row_bytes = 2 * (f + half) * maps_v * k * context.element_size()
    rows = min(BLOCK_ROWS, layout.size[1], max(1, _STEP_BYTES // max(1, row_bytes)))
    return _Scratch(
        context.new_empty(2, rows, f, maps_v, k),
        context.new_empty(2, rows, half * (maps_v // v), v, k),
        torch.stack([basis.even, basis.odd]).unsqueeze(1).repeat(1, rows, 1, 1),
    )


def _blocks(
    layout: Arrangement, context: Float[Tensor, "f context maps_v"], scratch: _Scratch
) -> Iterator[tuple[slice, list[_Step]]]:
    height, reach = layout.size[1], layout.scope[1] // 2
    items = context.shape[1] // height
    for block in chunks(height, 1, BLOCK_ROWS):
        steps = []
        for rows in chunks(block.stop - block.start, 1, scratch.spectra.shape[1]):
            windows = []
            for row in range(block.start + rows.start, block.start + rows.stop):
                first, last, shift = max(0, row - reach), min(height, row + reach + 1), reach - row
                offsets = slice((first + shift) * items, (last + shift) * items)
                windows.append((slice(first * items, last * items), offsets))
            steps.append(_Step(rows, windows))
        yield block, steps


def why_not(problem: Problem) -> str | None:
    """The matrices of its transforms grow with the square of the columns."""
    size = _transform_bytes(_layout_of(problem._replace(workspace=0)))
    if size > _LARGEST_TRANSFORM_BYTES:
        return f"needs {size >> 20} MiB of cosines, at most {_LARGEST_TRANSFORM_BYTES >> 20} are allowed"
    return None


def cost(problem: Problem) -> float:
    """For f frequencies, the spectra 8·f·pairs of rows·u·k·v and transforms 4·f·n·k·v / 2; no trace of h."""
    return _seconds(_layout_of(problem._replace(workspace=0)), problem)


@lru_cache(maxsize=1024)
def _layout_of(problem: Problem) -> Arrangement:
    """The cheapest arrangement, among those whose transforms fit."""
    return min(
        arrangements(problem.size, problem.reachable_scope),
        key=lambda one: (_transform_bytes(one) > _LARGEST_TRANSFORM_BYTES, _seconds(one, problem)),
    )


def _transform_bytes(layout: Arrangement) -> int:
    return 4 * 2 * frequencies(layout.size[2], layout.scope[2]) * (2 * layout.size[2] + layout.scope[2])


def _seconds(layout: Arrangement, problem: Problem) -> float:
    """From the FLOPs of one image: sums over rows, transforms, lambdas applied."""
    device, h, u = rates(problem.device), problem.heads, problem.intra_depth
    k, v = problem.query_depth, problem.value_depth
    slices, rows, columns = layout.size
    f, half = frequencies(columns, layout.scope[2]), (columns + 1) // 2
    reach = min(layout.scope[1] // 2, rows - 1)
    pairs = rows * (2 * reach + 1) - reach * (reach + 1)
    sums = 8.0 * f * slices * pairs * layout.scope[0] * u * k * v
    transforms = 4.0 * f * slices * rows * (half * k + columns * u * layout.scope[0]) * v
    applied = 8.0 * slices * rows * half * h * k * v
    written = max(problem.item_bytes, 4) * slices * rows * (2 * f + columns) * k * v
    launches = LAUNCHES * rows
    if problem.backward:
        sums, transforms, applied, written = 3 * sums, 2 * transforms, 2 * applied, 3 * written
        launches = BACKWARD_LAUNCHES * rows
    # The transforms and the small products that apply lambdas are slower than the sums: measured.
    flops = sums + 1.5 * transforms + 2 * applied
    seconds = flops / device.product_flops + written / device.bytes
    return problem.batch * seconds + launches * device.launch_seconds


def suits(
    problem: Problem, products: Sequence[Sequence[Float[Tensor, "b _ _ *size"]]]
) -> Bool[Tensor, " b"] | None:
    """Which images have no number in a row that is too large beside those of a window of it; None: each.

    A transform's rounding errors are relative to the largest number that it adds up, wherever that stands in
    the row; a number that is not finite is carried all over it. What a CUDA graph records cannot look.
    """
    if problem.device == "cuda" and torch.cuda.is_current_stream_capturing():
        return None
    layout = _layout_of(problem._replace(workspace=0))
    if layout.scope[2] >= 2 * layout.size[2] - 1:  # every window holds whole rows
        return None
    suited = None
    for product in products:
        at_positions = magnitudes(product)
        if not at_positions.numel() or _are_even(*at_positions.aminmax()).item():  # without a look at windows
            continue
        even = _even_images(at_positions, layout, problem.reachable_scope)
        suited = even if suited is None else suited & even
    return suited


def _are_even(smallest: Tensor, largest: Tensor) -> Tensor:
    return largest.isfinite() & (largest <= _LARGEST_SPREAD * smallest)


def _even_images(
    at_positions: Float[Tensor, " b *size"], layout: Arrangement, scope: tuple[int, ...]
) -> Bool[Tensor, " b"]:
    windows = layout.view(largest_in_windows(at_positions, scope)[:, None, None])
    in_rows = layout.view(at_positions[:, None, None]).amax(-1, keepdim=True)
    in_strips = largest_in_windows(in_rows[:, 0, 0], (*layout.scope[:2], 1))
    return _are_even(windows[:, 0, 0], in_strips).flatten(1).all(1)


IMPLEMENTATION = Implementation("fourier", why_not, cost, run, gradients, suits, alias="mixed")
