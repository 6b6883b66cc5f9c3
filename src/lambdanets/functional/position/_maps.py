"""Sequences and volumes as batches of maps, for implementations that know maps alone.

A sequence is a map of height 1. Of a volume every slice is a map of the batch, and the slices that its
window reaches, beside each other, are its intra-depth: an exact rewriting, as the sum over the intra-depth
and the sum over the first axis of the window are both plain sums.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


def queries_to_maps(queries: Float[Tensor, "b h k *size"]) -> Float[Tensor, "maps h k height width"]:
    """Also for outputs and their gradients."""
    if queries.ndim == 4:
        return queries.unsqueeze(3)
    return queries.movedim(3, 1).flatten(0, 1) if queries.ndim == 6 else queries


def queries_from_maps(
    maps: Float[Tensor, "maps h k height width"], like: Float[Tensor, "b c d *size"]
) -> Float[Tensor, "b h k *size"]:
    """Undo `queries_to_maps`; `like` has the batch and the size."""
    if like.ndim == 4:
        return maps.squeeze(3)
    return maps.unflatten(0, (like.shape[0], like.shape[3])).movedim(1, 3) if like.ndim == 6 else maps


def values_to_maps(
    values: Float[Tensor, "b u v *size"], table: Float[Tensor, "u k *scope"]
) -> Float[Tensor, "maps u_depth v height width"]:
    """A copy for each slice of the window, where there are three axes."""
    if values.ndim == 4:
        return values.unsqueeze(3)
    if values.ndim == 5:
        return values
    side = table.shape[2]
    windows = pad(values, (0, 0, 0, 0, side // 2, side // 2)).unfold(3, side, 1)  # b u v depth y x side
    return windows.permute(0, 3, 6, 1, 2, 4, 5).flatten(0, 1).flatten(1, 2)


def values_from_maps(
    maps: Float[Tensor, "maps u_depth v height width"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
) -> Float[Tensor, "b u v *size"]:
    """The adjoint of `values_to_maps`: the copies of a slice are summed."""
    if values.ndim == 4:
        return maps.squeeze(3)
    if values.ndim == 5:
        return maps
    (b, u), depth, side = values.shape[:2], values.shape[3], table.shape[2]
    windows = maps.unflatten(1, (side, u)).unflatten(0, (b, depth)).permute(0, 3, 4, 1, 5, 6, 2)
    padded = pad(maps.new_zeros(values.shape), (0, 0, 0, 0, side // 2, side // 2))
    for offset in range(side):
        padded[:, :, :, offset : offset + depth] += windows[..., offset]
    return padded[:, :, :, side // 2 : side // 2 + depth]


def table_to_maps(table: Float[Tensor, "u k *scope"]) -> Float[Tensor, "u_depth k rows columns"]:
    """The window's slices as intra-depth."""
    if table.ndim == 3:
        return table.unsqueeze(2)
    return table.movedim(2, 0).flatten(0, 1) if table.ndim == 5 else table


def table_from_maps(
    maps: Float[Tensor, "u_depth k rows columns"], table: Float[Tensor, "u k *scope"]
) -> Float[Tensor, "u k *scope"]:
    """Undo `table_to_maps`."""
    if table.ndim == 3:
        return maps.squeeze(2)
    return maps.unflatten(0, (table.shape[2], -1)).movedim(0, 2) if table.ndim == 5 else maps
