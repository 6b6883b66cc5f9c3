"""A layer in place of a convolution: the same sizes of maps, and outputs of the same scale."""

import copy
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.nn.position import per_axis, set_implementation

# Side of the map on which a layer's scale is measured, by the number of axes: some 200 positions.
_SIDES: Final = {1: 196, 2: 14, 3: 6}
_BATCH: Final = 4


def check_replaceable(who: str, convolution: nn.Module, kind: type[nn.Module]) -> None:
    """Raise unless it is a convolution of a kind that keeps the size of maps, but for its stride.

    A lambda layer gives maps of ⌈size / stride⌉, and so does a convolution whose padding is, on both sides
    together, dilation · (kernel_size - 1).
    """
    if not isinstance(convolution, kind):
        raise ArgumentTypeError(
            f"{who}: convolution must be a torch.nn.{kind.__name__}, got a {type(convolution).__name__}."
        )
    one: Any = convolution
    if not one.in_channels:
        raise ArgumentError(
            f"{who}: convolution must know its channels, got a {type(one).__name__}. Call it once first."
        )
    lost = [dilation * (side - 1) for dilation, side in zip(one.dilation, one.kernel_size, strict=True)]
    padding = one.padding
    if padding == "same" or (padding != "valid" and [2 * side for side in padding] == lost):
        return
    wanted = tuple(side // 2 for side in lost)
    hint = "" if all(side % 2 == 0 for side in lost) else " An even kernel has none that does."
    raise ArgumentError(
        f"{who}: convolution must have padding {wanted}, which keeps the size of maps but for the stride, "
        f"got {padding!r} with kernel_size {tuple(one.kernel_size)} and dilation {tuple(one.dilation)}.{hint}"
    )


@torch.no_grad()
def match_scale(
    layer: nn.Module, convolution: nn.Module, feature_size: int | Sequence[int] | None = None
) -> None:
    """Scale a lambda layer's values so that its outputs have the standard deviation of a convolution's.

    The outputs are linear in the values, whatever the normalisations. Their scale depends on the window, the
    map and the pool, so it is measured by a copy. On the meta device nothing is done.

    Args:
        layer: A lambda layer with its initial weights.
        convolution: What it takes the place of.
        feature_size: Map that the layer is for.
    """
    weight, projection, norm = (_weight(one) for one in (convolution, layer.to_values, layer.norm_values))
    assert weight is not None and projection is not None
    if "meta" in (weight.device.type, projection.device.type):
        return
    num_axes = projection.ndim - 2
    size = per_axis("like", "feature_size", feature_size or _SIDES[num_axes], num_axes)
    trial = copy.deepcopy(layer).train()
    set_implementation(trial, "auto")
    found = trial(_noise(projection.shape[1], size).to(projection)).std()
    # Of a convolution's output on noise of unit variance.
    wanted = weight.double().square().flatten(1).sum(1).mean().sqrt()
    factor = (wanted.to(projection.device) / found).item()
    if norm is None:
        projection.mul_(factor)
    else:
        norm.mul_(factor)


def _weight(module: Any) -> Tensor | None:
    return getattr(module, "weight", None)


def _noise(d: int, size: tuple[int, ...]) -> Tensor:
    """Noise of unit variance, each position the mean of two neighbours along each axis, and scaled up again.

    Feature maps lie between white noise, whose mean over a pool's window is small, and smooth maps.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(_BATCH, d, *(side + 1 for side in size), generator=generator, device="cpu")
    for axis, side in enumerate(size, start=2):
        noise = (noise.narrow(axis, 0, side) + noise.narrow(axis, 1, side)) / 2**0.5
    return noise
