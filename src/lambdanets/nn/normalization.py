"""Normalisation of queries and values: norms of maps, applied to rows or folded into projections."""

from typing import Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import check_choice
from lambdanets.notation import Normalization

NORMALIZATIONS: Final[tuple[Normalization, ...]] = get_args(Normalization)

BatchNorm = nn.modules.batchnorm._BatchNorm
_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position, for maps with channels before space.

    It looks at one position at a time, so it suits causal layers.

    Paper: none (ours).
    """

    def forward(self, input: Float[Tensor, "b d *size"]) -> Float[Tensor, "b d *size"]:
        """Normalise each position's channels to mean 0 and variance 1, then scale and shift them."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def make_normalization(normalization: Normalization, channels: int, num_axes: int) -> nn.Module:
    """A module for maps "b channels *size" with `num_axes` axes.

    Paper: §3.1 (batch normalisation of queries and values); Table 11 (none).

    Args:
        normalization: `"batch"` (the paper's), `"layer"` (over the channels of a position) or `"none"`.
        channels: Channels of the map.
        num_axes: 1, 2 or 3.
    """
    check_choice("make_normalization", "normalization", normalization, NORMALIZATIONS)
    if normalization == "batch":
        return _BATCH_NORMS[num_axes - 1](channels)
    return ChannelLayerNorm(channels) if normalization == "layer" else nn.Identity()


def fold_batch_norm(
    weight: Float[Tensor, "out d"], norm: nn.Module
) -> tuple[Float[Tensor, "out d"], Float[Tensor, " out"]]:
    """The weights and biases of a projection followed by a batch norm with its running statistics.

    Computed in float32 at least. Other norms, which look at their input, change nothing here.
    """
    if not isinstance(norm, BatchNorm):
        return weight, weight.new_zeros(len(weight))
    assert norm.running_mean is not None and norm.running_var is not None
    dtype = torch.promote_types(weight.dtype, torch.float32)
    scale = norm.weight.to(dtype) * (norm.running_var.to(dtype) + norm.eps).rsqrt()
    bias = norm.bias.to(dtype) - norm.running_mean.to(dtype) * scale
    return (weight.to(dtype) * scale[:, None]).to(weight.dtype), bias.to(weight.dtype)


def normalize_rows(rows: Float[Tensor, "b n d"], norm: nn.Module) -> Float[Tensor, "b n d"]:
    """A norm of maps applied to positions, each as a map of one element: only the channels matter to it."""
    if isinstance(norm, nn.Identity):
        return rows
    axes = 2 if isinstance(norm, nn.BatchNorm2d) else 3 if isinstance(norm, nn.BatchNorm3d) else 0
    # Norms of channels that are not beside each other are several times slower.
    flat = rows.contiguous().flatten(0, 1)
    return norm(flat.view(*flat.shape, *(1,) * axes)).view(rows.shape)
