"""Modules that scale: squeeze-and-excitation and FiLM the channels, stochastic depth whole branches."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, check_positive
from lambdanets.functional.lambdas import channel_lambda
from lambdanets.nn.children import as_one_node, bind_inputs, is_symbolic, plain_weight

# A tracer keeps these as calls: they ask for the type and the axes of maps that are not there yet.
torch.fx.wrap("bind_inputs")
torch.fx.wrap("_draw_kept")


class SqueezeExcitation(nn.Module):
    """Scale each channel by a weight computed from the channels' means over the map.

    y = x · σ(W₂ relu(W₁ mean(x) + b₁) + b₂). Read as a lambda: a diagonal one, shared by all positions.

    Paper: §C.4; Tables 3 and 13.

    Args:
        channels: Channels of the map.
        hidden_channels: Channels of the bottleneck; channels / 4 in the 350-epoch family, / 16 in Table 3.

    Raises:
        ArgumentError: A number of channels below 1.
        ArgumentTypeError: Inputs that are not of the weights' floating-point type.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        check_positive("SqueezeExcitation", channels=channels, hidden_channels=hidden_channels)
        self.squeeze = nn.Conv2d(channels, hidden_channels, 1)
        self.excite = nn.Conv2d(hidden_channels, channels, 1)

    def weights(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b d 1 1"]:
        """One weight for each channel."""
        bind_inputs("SqueezeExcitation", "inputs", inputs, plain_weight(self.squeeze))
        means = inputs.mean((2, 3), keepdim=True)
        return torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))

    def lambdas(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b d d"]:
        """The linear map that the layer applies to each position: `apply_lambdas` with it is `forward`."""
        return channel_lambda(self.weights(inputs).flatten(1))

    def forward(self, inputs: Float[Tensor, "b d height width"]) -> Float[Tensor, "b d height width"]:
        """Scale the channels."""
        return inputs * self.weights(inputs)


class FiLM(nn.Module):
    """Scale and shift each channel by a condition.

    y = γ(c) x + β(c), both linear in the condition. It starts as the identity. Read as a lambda: a
    diagonal one, shared by all positions, and a vector added to what it gives.

    Paper: §C.4.

    Args:
        channels: Channels of the map.
        condition_channels: Depth of the condition.

    Raises:
        ArgumentError: A number of channels below 1.
        ArgumentTypeError: Inputs or a condition that are not of the weights' floating-point type.

    Example:
        >>> FiLM(8, 3)(torch.ones(2, 8, 5, 4), torch.zeros(2, 3)).shape
        torch.Size([2, 8, 5, 4])
    """

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        check_positive("FiLM", channels=channels, condition_channels=condition_channels)
        self.to_scales = nn.Linear(condition_channels, channels)
        self.to_shifts = nn.Linear(condition_channels, channels)
        for projection, start in ((self.to_scales, 1.0), (self.to_shifts, 0.0)):
            nn.init.zeros_(projection.weight)
            nn.init.constant_(projection.bias, start)

    def lambdas(self, condition: Float[Tensor, "b e"]) -> Float[Tensor, "b d d"]:
        """The linear map that the layer applies to each position before the shifts."""
        bind_inputs("FiLM", "condition", condition, plain_weight(self.to_scales))
        return channel_lambda(self.to_scales(condition))

    def forward(
        self, inputs: Float[Tensor, "b d height width"], condition: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b d height width"]:
        """Scale and shift the channels."""
        weight = plain_weight(self.to_scales)
        bind_inputs("FiLM", "inputs", inputs, weight)
        bind_inputs("FiLM", "condition", condition, weight)
        scales, shifts = self.to_scales(condition), self.to_shifts(condition)
        # Under autocast the types may differ.
        dtype = torch.promote_types(inputs.dtype, scales.dtype)
        scales, shifts = (one.to(dtype)[:, :, None, None] for one in (scales, shifts))
        return torch.addcmul(shifts, scales, inputs.to(dtype))


class StochasticDepth(nn.Module):
    """Zero the branch of an image with probability `rate` while training, and rescale the others.

    Paper: Table 20.

    Args:
        rate: Probability to drop, from 0 up to but not including 1.

    Raises:
        ArgumentError: A rate out of range.
        ArgumentTypeError: Inputs that are no tensor of floating-point numbers.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ArgumentError(f"StochasticDepth: rate must be at least 0 and below 1, got {rate}.")
        self.rate = rate

    def forward(self, inputs: Float[Tensor, " b *rest"]) -> Float[Tensor, " b *rest"]:
        """Drop whole images."""
        if is_symbolic(inputs):
            return as_one_node(self, inputs)
        bind_inputs("StochasticDepth", "inputs", inputs)
        if not self.training or self.rate == 0:
            return inputs
        keep = 1 - self.rate
        return inputs * _draw_kept(inputs, keep) / keep

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"


def _draw_kept(inputs: Float[Tensor, " b *rest"], keep: float) -> Tensor:
    """One number for each image, 1 with probability `keep` and 0 otherwise."""
    return inputs.new_empty(inputs.shape[0], *(1 for _ in inputs.shape[1:])).bernoulli_(keep)
