"""A Fourier transform along one axis and a direct band along the other, both as real matrix products."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._chunks import chunks
from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional.position._maps import (
    queries_from_maps,
    queries_to_maps,
    table_from_maps,
    table_to_maps,
    values_from_maps,
    values_to_maps,
)

# Rows of the map that share one band matrix: its window is this and the scope high.
BLOCK_ROWS = 8

# What cosines and sines may take; they are kept from call to call.
LARGEST_TRANSFORM_BYTES = 16 << 20


class _Transform(NamedTuple):
    """Cosines and sines for one width; f frequencies, real and imaginary parts beside each other.

    Attributes:
        forward: From positions to frequencies.
        inverse: Back, for the positions of the map.
        offsets: From relative offsets to frequencies, conjugated: a correlation, not a convolution.
    """

    forward: Float[Tensor, "f2 width"]
    inverse: Float[Tensor, "width f2"]
    offsets: Float[Tensor, "f2 side"]


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
) -> Float[Tensor, "b h v *size"]:
    """λ̂ = R̂ v̂ for each frequency of the last axis, a band of R̂ along the other; λ back; the queries."""
    output = queries.new_empty(*queries.shape[:2], *values.shape[2:])
    maps = table_to_maps(table)
    transform = _transform_of(values, maps)
    product, reach = _complex_product(_table_spectrum(maps, transform)), maps.shape[2] // 2
    for part in _parts(values, table, workspace):
        asked = queries_to_maps(queries[part]).to(product.dtype)
        context = _spectrum(values_to_maps(values[part], table), transform)
        found = asked.new_empty(*asked.shape[:2], values.shape[2], *asked.shape[3:])
        for rows, window, band in _bands(product, asked.shape[3], reach):
            lambdas = _lambdas(band, context[:, :, window], transform, table.shape[1], values.shape[2])
            found[..., rows, :] = torch.einsum("bhkyx,xykbv->bhvyx", asked[..., rows, :], lambdas)
        output[part] = queries_from_maps(found, queries[part])
    return output


def gradients(
    gradient: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needed: Sequence[bool],
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq = λ dy with λ computed again; of dλ = Σ_h q dyᵀ the transposed products, in the same order."""
    maps = table_to_maps(table)
    transform = _transform_of(values, maps)
    product, reach = _complex_product(_table_spectrum(maps, transform)), maps.shape[2] // 2
    of_product = torch.zeros_like(product)
    of_queries, of_values = torch.empty_like(queries), torch.empty_like(values)
    for part in _parts(values, table, workspace):
        asked, outer = (queries_to_maps(one[part]).to(product.dtype) for one in (queries, gradient))
        context = _spectrum(values_to_maps(values[part], table), transform)
        of_context, of_asked = torch.zeros_like(context), torch.empty_like(asked)
        for rows, window, band in _bands(product, asked.shape[3], reach):
            seen = context[:, :, window]
            if needed[0]:
                lambdas = _lambdas(band, seen, transform, table.shape[1], values.shape[2])
                of_asked[..., rows, :] = torch.einsum("bhvyx,xykbv->bhkyx", outer[..., rows, :], lambdas)
            if needed[1] or needed[2]:
                of_rows = _of_rows(asked[..., rows, :], outer[..., rows, :], band, transform)
            if needed[1]:
                of_context[:, :, window] += torch.bmm(band.mT, of_rows).view_as(seen)
            if needed[2]:
                _fold_band(torch.bmm(of_rows, _columns(seen).mT), of_product, rows, window, reach)
        if needed[0]:
            of_queries[part] = queries_from_maps(of_asked, queries[part])
        if needed[1]:
            back = _from_spectrum(of_context, transform, len(asked))
            of_values[part] = values_from_maps(back, values[part], table)
    of_maps = torch.einsum("fd,fuky->ukyd", transform.offsets, _of_spectrum(of_product).flatten(0, 1))
    return of_queries, of_values, table_from_maps(of_maps, table)


@lru_cache(maxsize=16)
def _transform(width: int, side: int, dtype: torch.dtype, device: torch.device) -> _Transform:
    period = _period(width, side)
    frequencies = torch.arange(period // 2 + 1, dtype=torch.float64)

    def waves(places: Int[Tensor, " n"]) -> Float[Tensor, "f2 n"]:
        angles = 2 * math.pi / period * frequencies[:, None] * places
        return torch.stack([angles.cos(), -angles.sin()], dim=1).flatten(0, 1)

    # Every frequency stands for itself and its mirror image, but for zero and the middle one.
    weights = torch.full((len(frequencies),), 2 / period, dtype=torch.float64)
    weights[[0, -1]] = 1 / period
    forward = waves(torch.arange(width))
    inverse = forward.T * weights.repeat_interleave(2)
    offsets = waves(-torch.arange(-(side // 2), side // 2 + 1))
    return _Transform(*(one.contiguous().to(device, dtype) for one in (forward, inverse, offsets)))


def _period(width: int, side: int) -> int:
    """Long enough for what wraps around to stay outside the map; even, so that half of it is a frequency."""
    length = width + side // 2
    return length + length % 2


def _transform_of(values: Tensor, table: Tensor) -> _Transform:
    dtype = torch.promote_types(values.dtype, torch.float32)
    return _transform(values.shape[-1], table.shape[-1], dtype, values.device)


def _table_spectrum(
    table: Float[Tensor, "u k rows side"], transform: _Transform
) -> Float[Tensor, "f 2 u k rows"]:
    table = table.to(transform.offsets.dtype)
    return torch.einsum("fd,ukyd->fuky", transform.offsets, table).unflatten(0, (-1, 2))


def _spectrum(values: Tensor, transform: _Transform) -> Float[Tensor, "f 2 height u bv"]:
    by_column = values.to(transform.forward.dtype).permute(4, 3, 1, 0, 2)  # width height u b v
    height, u = by_column.shape[1:3]
    return (transform.forward @ by_column.flatten(1)).view(-1, 2, height, u, by_column[0, 0, 0].numel())


def _from_spectrum(
    of_context: Float[Tensor, "f 2 height u bv"], transform: _Transform, b: int
) -> Float[Tensor, "b u v height width"]:
    """The adjoint of `_spectrum`."""
    height, u = of_context.shape[2:4]
    back = transform.forward.T @ of_context.flatten(0, 1).flatten(1)  # width height_u_b_v
    return back.view(-1, height, u, b, of_context.shape[4] // b).permute(3, 2, 4, 1, 0)


def _parts(values: Tensor, table: Tensor, workspace: int) -> Iterator[slice]:
    """Parts of the batch whose spectrum and lambdas of a block fit the workspace, twice."""
    *volume, width = values.shape[3:]
    depth, height = (1, 1, *volume)[-2:]
    u = values.shape[1] * (table.shape[2] if table.ndim == 5 else 1)
    period = width + table.shape[-1] // 2
    numbers = period * height * u + (period + 2 * width) * min(BLOCK_ROWS, height) * table.shape[1]
    item = torch.promote_types(values.dtype, torch.float32).itemsize
    return chunks(len(values), 2 * item * depth * values.shape[2] * numbers, workspace)


def _bands(
    product: Float[Tensor, "f 2 2 u k padded"], height: int, reach: int
) -> Iterator[tuple[slice, slice, Float[Tensor, "f rows_k window_u"]]]:
    """Blocks of rows, the window of rows they read, and the matrix from one to the other."""
    band = torch.empty(0)
    geometry: tuple[int, ...] = ()
    for start in range(0, height, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, height))
        window = slice(max(0, start - reach), min(height, rows.stop + reach))
        if (shape := (rows.stop - start, window.start - start, window.stop - start)) != geometry:
            geometry, band = shape, _band(product, rows, window, reach)
        yield rows, window, band


def _complex_product(spectrum: Float[Tensor, "f 2 u k side"]) -> Float[Tensor, "f 2 2 u k padded"]:
    """R̂ as the real 2×2 matrix that multiplies by it; zeros beside the scope, for the rows of a block."""
    real, imaginary = spectrum.unbind(1)
    upper, lower = torch.stack([real, -imaginary], dim=1), torch.stack([imaginary, real], dim=1)
    return pad(torch.stack([upper, lower], dim=1), (BLOCK_ROWS - 1, BLOCK_ROWS - 1))


def _of_spectrum(of_product: Float[Tensor, "f 2 2 u k padded"]) -> Float[Tensor, "f 2 u k side"]:
    """The adjoint of `_complex_product`."""
    inside = of_product[..., BLOCK_ROWS - 1 : 1 - BLOCK_ROWS]
    real, imaginary = inside[:, 0, 0] + inside[:, 1, 1], inside[:, 1, 0] - inside[:, 0, 1]
    return torch.stack([real, imaginary], dim=1)


def _offsets(rows: slice, window: slice, reach: int) -> Iterator[slice]:
    """For each row of a block, where in the padded table its window begins and ends."""
    first = window.start - rows.start + reach + BLOCK_ROWS - 1
    for row in range(rows.stop - rows.start):
        yield slice(first - row, first - row + window.stop - window.start)


def _band(
    product: Float[Tensor, "f 2 2 u k padded"], rows: slice, window: slice, reach: int
) -> Float[Tensor, "f rows_k window_u"]:
    """Rows (part, row, k), columns (part, row of the window, u)."""
    f, _, _, u, k, _ = product.shape
    band = product.new_empty(f, 2, rows.stop - rows.start, k, 2, window.stop - window.start, u)
    for row, offsets in enumerate(_offsets(rows, window, reach)):
        band[:, :, row] = product[..., offsets].permute(0, 1, 4, 2, 5, 3)
    return band.flatten(4).flatten(1, 3)


def _fold_band(
    of_band: Float[Tensor, "f rows_k window_u"],
    of_product: Float[Tensor, "f 2 2 u k padded"],
    rows: slice,
    window: slice,
    reach: int,
) -> None:
    """Add the adjoint of `_band` to `of_product`."""
    f, _, _, u, k, _ = of_product.shape
    whole = of_band.view(f, 2, rows.stop - rows.start, k, 2, window.stop - window.start, u)
    for row, offsets in enumerate(_offsets(rows, window, reach)):
        of_product[..., offsets] += whole[:, :, row].permute(0, 1, 3, 5, 2, 4)


def _columns(context: Float[Tensor, "f 2 window u bv"]) -> Float[Tensor, "f window_u bv"]:
    return context.flatten(1, 3)


def _lambdas(
    band: Float[Tensor, "f rows_k window_u"],
    context: Float[Tensor, "f 2 window u bv"],
    transform: _Transform,
    k: int,
    v: int,
) -> Float[Tensor, "width rows k b v"]:
    """λ of a block of rows."""
    spectrum = torch.bmm(band, _columns(context))  # f 2_rows_k bv
    f, rows, bv = spectrum.shape[0], spectrum.shape[1] // (2 * k), spectrum.shape[2]
    return (transform.inverse @ spectrum.view(2 * f, -1)).view(-1, rows, k, bv // v, v)


def _of_rows(
    asked: Float[Tensor, "b h k rows width"],
    outer: Float[Tensor, "b h v rows width"],
    band: Float[Tensor, "f rows_k window_u"],
    transform: _Transform,
) -> Float[Tensor, "f rows_k bv"]:
    """The adjoint of `_lambdas`' transform, of dλ = Σ_h q dyᵀ."""
    of_lambdas = torch.einsum("bhkyx,bhvyx->xykbv", asked, outer).flatten(1)
    return (transform.inverse.T @ of_lambdas).view(*band.shape[:2], -1)


def why_not(problem: Problem) -> str | None:
    """The matrices of its transforms grow with the square of the last axis."""
    width, side = problem.size[-1], problem.reachable_scope[-1]
    needed = 4 * 2 * (_period(width, side) // 2 + 1) * (2 * width + side)
    if needed > LARGEST_TRANSFORM_BYTES:
        return f"needs {needed >> 20} MiB of cosines, at most {LARGEST_TRANSFORM_BYTES >> 20} are allowed"
    return None


def cost(problem: Problem) -> float:
    """Transforms 4·f·n·(u + k)·v and the band 8·f·height·window·u·k·v, for f frequencies; no trace of h."""
    device = rates(problem.device)
    b, k, u, v = problem.batch, problem.query_depth, problem.intra_depth, problem.value_depth
    # A sequence is a map of height 1; a volume a batch of maps with the window's slices as intra-depth.
    depth, height, width = (1, 1, *problem.size)[-3:]
    side_z, side_y, side_x = (1, 1, *problem.reachable_scope)[-3:]
    b, u = b * depth, u * side_z
    f = _period(width, side_x) // 2 + 1
    window = min(height, side_y + BLOCK_ROWS - 1)
    transforms = 4 * f * height * width * (u + k) * v
    band = 8 * f * height * window * u * k * v
    applied = 2 * height * width * problem.heads * k * v
    moved = 4 * (b * height * k * v * 1.5 * (f + width) + 8 * f * BLOCK_ROWS * k * window * u)
    # With the lambdas computed again, two and a half forwards: measured.
    passes = 2.5 if problem.backward else 1
    blocks = -(-height // BLOCK_ROWS)
    return passes * (
        b * (transforms + band + applied) / device.product_flops
        + moved / device.bytes
        + (6 + 8 * blocks) * device.launch_seconds
    )


IMPLEMENTATION = Implementation("mixed", why_not, cost, run, gradients)
