"""Which axes of a tensor lie next to each other in memory: results come in the order of their inputs."""

import torch
from jaxtyping import Float
from torch import Tensor


def channels_last(tensor: Float[Tensor, "b c d *size"]) -> Float[Tensor, "b c d *size"]:
    """The same numbers, those of a position beside each other."""
    return tensor.movedim((1, 2), (-2, -1)).contiguous().movedim((-2, -1), (1, 2))


def channels_are_last(tensor: Float[Tensor, "b _ _ *size"]) -> bool:
    """Whether the channels of a position lie beside each other, and the positions do not."""
    return tensor.stride(2) == 1 and tensor.stride(-1) != 1


def in_order_of(
    tensor: Float[Tensor, "b c d *size"], like: Float[Tensor, "b _ _ *size"]
) -> Float[Tensor, "b c d *size"]:
    """The same numbers with channels last where `like` has them last, contiguous otherwise."""
    return channels_last(tensor) if channels_are_last(like) else tensor.contiguous()


def empty_in_order_of(
    like: Float[Tensor, "b _ _ *size"], c: int, d: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "b c d *size"]:
    """Room for a result, in the order that `in_order_of` gives it."""
    b, _, _, *size = like.shape
    if channels_are_last(like):
        return like.new_empty(b, *size, c, d, dtype=dtype).movedim((-2, -1), (1, 2))
    return like.new_empty(b, c, d, *size, dtype=dtype)


def rows_of(tensor: Float[Tensor, "b h k *size"]) -> Float[Tensor, "b n_h k"]:
    """One row for each head of each position; a view, where channels are last in memory."""
    return tensor.movedim((1, 2), (-2, -1)).flatten(1, -2)


def of_rows(
    rows: Float[Tensor, "b n_h v"], like: Float[Tensor, "b h _ *size"]
) -> Float[Tensor, "b h v *size"]:
    """Undo `rows_of`."""
    return rows.unflatten(1, (*like.shape[3:], like.shape[1])).movedim((-2, -1), (1, 2))
