"""Normalisation of queries and values."""

from typing import Final, get_args

from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import check_choice
from lambdanets.notation import Normalization

NORMALIZATIONS: Final[tuple[Normalization, ...]] = get_args(Normalization)

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
