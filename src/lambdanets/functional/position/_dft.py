"""Real Fourier transforms of rows as matrix products, for rows that are used by split_halves.

Columns stand at x = ..., -3/2, -1/2, 1/2, 3/2, ..., so that cosines are even and sines odd: a transform
back is made for the right half, once from the cosines and once from the sines, and the left half is their
difference. A row of odd length gets one column more, which is never filled and never read.

Frequencies come in pairs of numbers, real and imaginary part. The first pair holds the two frequencies
that are real: zero, whose wave is even, and the highest, whose wave is odd.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional.position._maps import window_slices, window_slices_adjoint


class DFT(NamedTuple):
    """Cosines and sines for one width and scope.

    Attributes:
        forward: From columns to frequencies, real and imaginary parts beside each other.
        even: Back to the right half, from real parts.
        odd: Back to the right half, from imaginary parts.
        offsets: From relative offsets to frequencies, conjugated: a correlation, not a convolution.
    """

    forward: Float[Tensor, "f2 width"]
    even: Float[Tensor, "half f"]
    odd: Float[Tensor, "half f"]
    offsets: Float[Tensor, "f2 side"]


def frequencies(width: int, side: int) -> int:
    """Half of the shortest even period for which what wraps around stays outside the row."""
    return (width + side // 2 + 1) // 2


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def dft_matrices(width: int, side: int, dtype: torch.dtype, device: torch.device) -> DFT:
    """The matrices, computed in float64 on a processor, and kept: whatever the first call ran under."""
    f, half = frequencies(width, side), (width + 1) // 2
    columns = torch.arange(width, dtype=torch.float64, device="cpu") - half + 0.5
    real, imaginary = _cosines_and_sines(f, columns)
    imaginary[1:] *= -1
    right = torch.arange(half, dtype=torch.float64, device="cpu") + 0.5
    even, odd = (wave.T / f for wave in _cosines_and_sines(f, right))
    even[:, 0] /= 2
    odd[:, 0] /= 2
    odd[:, 1:] *= -1
    offsets = torch.arange(side, dtype=torch.float64, device="cpu") - side // 2
    cosines, sines = _cosines_and_sines(f, offsets)
    sines[0] = torch.cos(math.pi * offsets)
    matrices = (_beside(real, imaginary), even, odd, _beside(cosines, sines))
    return DFT(*(one.contiguous().to(device, dtype) for one in matrices))


def _cosines_and_sines(
    f: int, places: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "f n"], Float[Tensor, "f n"]]:
    indices = torch.arange(f, dtype=torch.float64, device=places.device)
    angles = math.pi / f * indices[:, None] * places
    sines = angles.sin()
    sines[0] = torch.sin(math.pi * places)
    return angles.cos(), sines


def _beside(real: Float[Tensor, "f n"], imaginary: Float[Tensor, "f n"]) -> Float[Tensor, "f2 n"]:
    return torch.stack([real, imaginary], dim=1).flatten(0, 1)


def table_spectrum(
    table: Float[Tensor, "u k slices rows columns"], dft: DFT
) -> Float[Tensor, "2 f window k"]:
    """R̂ as the real 2×2 matrix that multiplies by it: from (row, part, slice, u) to (part, k)."""
    u, k, slices, rows, _ = table.shape
    by_offset = table.to(dft.offsets.dtype).permute(4, 3, 2, 0, 1).flatten(1)
    spectrum = (dft.offsets @ by_offset).view(-1, 2, rows, slices * u, k)
    real, imaginary = spectrum.unbind(1)
    second = real.clone()
    second[0] = imaginary[0]
    imaginary[0] = 0
    upper = torch.stack([real, -imaginary], dim=2)
    lower = torch.stack([imaginary, second], dim=2)
    return torch.stack([upper, lower]).flatten(2, 4)


def table_spectrum_adjoint(
    grad_spectrum: Float[Tensor, "2 f window k"], table: Float[Tensor, "u k slices rows columns"], dft: DFT
) -> Float[Tensor, "u k slices rows columns"]:
    """The adjoint of `table_spectrum`."""
    u, k, slices, rows, _ = table.shape
    upper, lower = grad_spectrum.view(2, -1, rows, 2, slices * u, k)
    real, imaginary = upper[:, :, 0] + lower[:, :, 1], lower[:, :, 0] - upper[:, :, 1]
    real[0], imaginary[0] = upper[0, :, 0], lower[0, :, 1]
    parts = torch.stack([real, imaginary], dim=1).flatten(0, 1).flatten(1)
    return (dft.offsets.T @ parts).view(-1, rows, slices, u, k).permute(3, 4, 2, 1, 0)


def values_spectrum(
    values: Float[Tensor, "b u v slices rows columns"], side: int, dft: DFT
) -> Float[Tensor, "f context maps_v"]:
    """V̂ by (row, part, slice of the window, u), for each slice of each image."""
    b, u, v, slices, rows, _ = values.shape
    by_column = window_slices(values, side).permute(5, 4, 6, 1, 0, 3, 2).to(dft.forward.dtype)
    spectrum = (dft.forward @ by_column.flatten(1)).view(-1, 2, rows, side * u, b * slices * v)
    return spectrum.transpose(1, 2).flatten(1, 3)


def values_spectrum_adjoint(
    grad_spectrum: Float[Tensor, "f context maps_v"],
    values: Float[Tensor, "b u v slices rows columns"],
    side: int,
    dft: DFT,
) -> Float[Tensor, "b u v slices rows columns"]:
    """The adjoint of `values_spectrum`."""
    b, u, v, slices, rows, _ = values.shape
    by_part = grad_spectrum.unflatten(1, (rows, 2, -1)).transpose(1, 2).flatten(0, 1).flatten(1)
    windows = (dft.forward.T @ by_part).view(-1, rows, side, u, b, slices, v).permute(4, 3, 6, 5, 1, 0, 2)
    return window_slices_adjoint(windows)


def split_halves(
    tensor: Float[Tensor, "b c d slices rows columns"], dtype: torch.dtype
) -> Float[Tensor, "rows half maps sides_c d"]:
    """The columns at x and -x beside each other, the right one first."""
    by_row = _by_row(tensor)
    b, c, d, slices, rows, width = tensor.shape
    half = (width + 1) // 2
    both = torch.empty(rows, half, b, slices, 2, c, d, dtype=dtype, device=tensor.device)
    both[:, : width - half, :, :, 0] = by_row[:, half:]
    both[:, width - half :, :, :, 0] = 0
    both[:, :, :, :, 1] = by_row[:, :half].flip(1)
    return both.flatten(4, 5).flatten(2, 3)


def write_halves(
    both: Float[Tensor, "rows half maps sides_c d"], out: Float[Tensor, "b c d slices rows columns"]
) -> None:
    """Undo `split_halves`."""
    by_row = _by_row(out)
    half = both.shape[1]
    whole = both.unflatten(3, (2, -1)).unflatten(2, (out.shape[0], -1))
    by_row[:, half:] = whole[:, : out.shape[5] - half, :, :, 0]
    by_row[:, :half] = whole[:, :, :, :, 1].flip(1)


def _by_row(
    tensor: Float[Tensor, "b c d slices rows columns"],
) -> Float[Tensor, "rows columns b slices c d"]:
    return tensor.permute(4, 5, 0, 3, 1, 2)


def negate_left(both: Float[Tensor, "rows half maps sides_c d"]) -> Float[Tensor, "rows half maps sides_c d"]:
    """The left halves negated: what goes with the odd part."""
    signed = both.clone()
    signed[..., both.shape[3] // 2 :, :].neg_()
    return signed
