"""Layers of a user's own, named as `support.own_layers:depthwise` where a config must be stored."""

from typing import Any

from torch import Tensor, nn


def depthwise(channels: int, *, stride: int, **others: Any) -> nn.Module:
    """A 3×3 convolution of each channel by itself."""
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def squares(keys: Tensor, dim: int) -> Tensor:
    """Squares that sum to one."""
    weights = keys.square() + 1e-3
    return weights / weights.sum(dim, keepdim=True)


class Scaled(nn.Module):
    """A normalisation of keys with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1)

    def forward(self, keys: Tensor, dim: int) -> Tensor:
        """Softmax of keys times a number."""
        return (keys * self.scale.weight).softmax(dim)


NUMBER = 3
