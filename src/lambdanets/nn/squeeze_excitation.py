"""Squeeze-and-excitation: one weight a channel, from the means of all channels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import check_positive


class SqueezeExcitation(nn.Module):
    """Scale each channel by a weight computed from the channels' means over the map.

    y = x · σ(W₂ relu(W₁ mean(x) + b₁) + b₂). Read as a lambda: a diagonal one, shared by all positions
    (`functional.channel_lambda`).

    Paper: §C.4; Tables 3 and 13.

    Args:
        channels: Channels of the map.
        hidden_channels: Channels of the bottleneck; channels / 4 in the 350-epoch family, / 16 in Table 3.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        check_positive("SqueezeExcitation", channels=channels, hidden_channels=hidden_channels)
        self.squeeze = nn.Conv2d(channels, hidden_channels, 1)
        self.excite = nn.Conv2d(hidden_channels, channels, 1)

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b d height width"]:
        """Scale the channels."""
        weights = inputs.mean((2, 3), keepdim=True)
        return inputs * torch.sigmoid(self.excite(torch.relu(self.squeeze(weights))))
