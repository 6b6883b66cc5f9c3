"""Which axes of a tensor lie next to each other in memory: results come in the order of their inputs."""

from jaxtyping import Float
from torch import Tensor


def channels_last(tensor: Float[Tensor, "b c d *size"]) -> Float[Tensor, "b c d *size"]:
    """The same numbers, those of a position beside each other."""
    return tensor.movedim((1, 2), (-2, -1)).contiguous().movedim((-2, -1), (1, 2))


def in_order_of(
    tensor: Float[Tensor, "b c d *size"], like: Float[Tensor, "b _ _ *size"]
) -> Float[Tensor, "b c d *size"]:
    """The same numbers with channels last where `like` has them last, contiguous otherwise."""
    if like.stride(2) == 1 and like.stride(-1) != 1:
        return channels_last(tensor)
    return tensor.contiguous()
