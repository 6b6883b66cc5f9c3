"""Stochastic depth: drop a residual branch for some images of a batch."""

from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError


class StochasticDepth(nn.Module):
    """Zero the branch of an image with probability `rate` while training, and rescale the others.

    Paper: Table 20.

    Args:
        rate: Probability to drop, from 0 up to but not including 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ArgumentError(f"StochasticDepth: rate must be at least 0 and below 1, got {rate}.")
        self.rate = rate

    def forward(self, inputs: Float[Tensor, "b *rest"]) -> Float[Tensor, "b *rest"]:
        """Drop whole images."""
        if not self.training or self.rate == 0:
            return inputs
        keep = 1 - self.rate
        kept = inputs.new_empty(inputs.shape[0], *(1 for _ in inputs.shape[1:])).bernoulli_(keep)
        return inputs * kept / keep

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate}"
