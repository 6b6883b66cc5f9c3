"""Windows of a map: every element's neighbours, and which of them are on the map."""

from collections.abc import Iterator
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.errors import ArgumentError, Sizes, bind_shape
from lambdanets.functional.relative_position import Size, check_scope


def window_values(maps: Float[Tensor, "b d *size"], window_size: int | Size) -> Float[Tensor, "b d r *size"]:
    """For every position the elements of the window around it, row by row; zero outside the map.

    |window| copies of the map: for depths of a few channels.

    Paper: none (ours).

    Args:
        maps: Any map.
        window_size: Side of the window, or one for each axis; odd.

    Example:
        >>> window_values(torch.arange(1.0, 4.0).view(1, 1, 3), 3)[0, 0].tolist()
        [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]
    """
    bind_shape("window_values", "maps", maps, "b d *size", {})
    window = window_sides("window_values", window_size, maps.ndim - 2)
    return torch.stack(list(neighbours(maps, window)), dim=2)


def neighbours(maps: Tensor, window: Size) -> Iterator[Tensor]:
    """The map as seen from every position, zero off the map: a view for each offset, row by row."""
    return views(pad_window(maps, window), window)


def pad_window(maps: Tensor, window: Size) -> Tensor:
    """Zeros around a map, half a window wide."""
    return pad(maps, [side // 2 for side in reversed(window) for _ in range(2)])


def views(padded: Tensor, window: Size) -> Iterator[Tensor]:
    """For each offset of the window, row by row, the part of a padded map that is as large as the map."""
    for offset in product(*map(range, window)):
        yield _part(padded, window, offset)


def crop_window(padded: Tensor, window: Size) -> Tensor:
    """Undo `pad_window`."""
    return _part(padded, window, tuple(side // 2 for side in window))


def _part(padded: Tensor, window: Size, offset: Size) -> Tensor:
    lengths = padded.shape[padded.ndim - len(window) :]
    for axis, (at, length, side) in enumerate(zip(offset, lengths, window, strict=True)):
        padded = padded.narrow(padded.ndim - len(window) + axis, at, length - side + 1)
    return padded


def on_map(size: Size, window: Size, device: torch.device) -> Bool[Tensor, "r *size"]:
    """Where the neighbour at each offset exists."""
    everywhere = torch.ones(size, dtype=torch.bool, device=device)
    return torch.stack(list(neighbours(everywhere, window)))


def window_sides(who: str, window_size: int | Size, axes: int) -> Size:
    """One odd side for each axis."""
    window = (window_size,) * axes if isinstance(window_size, int) else tuple(window_size)
    check_scope(who, window, axes, "window_size")
    return window


def bind_window(who: str, argument: str, tensor: Tensor, count: int, sizes: Sizes) -> None:
    """Check "b h r *size" against the number of offsets of a window."""
    if tensor.ndim < 4 or tensor.shape[2] != count:
        raise ArgumentError(
            f"{who}: {argument} must have shape (b, h, r, *size) with r={count}, one for each offset of the "
            f"window, got {tuple(tensor.shape)}."
        )
    bind_shape(who, argument, tensor, "b h r *size", sizes)
