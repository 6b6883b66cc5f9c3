"""Weights of another network taken into a network: what fits as it is or adapted, and a list of the rest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from lambdanets.nn.position import RelativePosition
from lambdanets.training.weights import check_finite

# The first convolution of our networks, the only layer whose inputs are the channels of images.
_STEM: Final = "stem.0.weight"

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NotTaken:
    """A tensor of a network that keeps its random numbers, or one of the weights that no network takes.

    Attributes:
        name: Its name in the state dict.
        wanted: Its shape in the network; None: it is not there.
        found: Its shape in the weights; None: it is not there.
        reason: Why it is not taken.
    """

    name: str
    wanted: Shape | None
    found: Shape | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a network takes of the weights of another.

    Attributes:
        tensors: What is taken, by name, as the network takes it.
        adapted: What was done to some of these, by name.
        not_taken: The tensors of both sides that have no partner.
        num_taken: Numbers that are taken.
        num_wanted: Numbers of the network, but for the layers that were to be new.
    """

    tensors: Mapping[str, Tensor]
    adapted: Mapping[str, str]
    not_taken: tuple[NotTaken, ...]
    num_taken: int
    num_wanted: int

    @property
    def fraction(self) -> float:
        """Fraction of the network's numbers that are taken, but for the layers that were to be new."""
        return self.num_taken / max(self.num_wanted, 1)

    def load(self, network: nn.Module) -> None:
        """Put what is taken into the network."""
        network.load_state_dict(self.tensors, strict=False)


def match_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], where: str, *, new: Mapping[str, str] | None = None
) -> Transfer:
    """Find what a network can take of weights, by name and shape; nothing is changed.

    Two tensors are adapted to another shape. The first convolution takes weights for other channels as timm
    does: for one channel they are summed, for more than the weights have they are repeated and scaled by the
    ratio of the numbers of channels, so that grey in all channels gives the outputs that it gave. The table
    of a global context on a smaller map is the middle of that of a larger one, which is exact.

    Args:
        network: The network, which may be on the meta device.
        tensors: The weights by name.
        where: Where they are from, for the message.
        new: Layers of the network that take nothing, by name, and why.

    Raises:
        CheckpointError: A number that would be taken is not finite.
    """
    state, new = network.state_dict(), new or {}
    globals_ = {
        f"{name}.table"
        for name, part in network.named_modules(remove_duplicate=False)
        if isinstance(part, RelativePosition) and part.is_global
    }
    taken: dict[str, Tensor] = {}
    adapted: dict[str, str] = {}
    not_taken: list[NotTaken] = []
    for name in [*state, *sorted(tensors.keys() - state.keys())]:
        wanted, found = (tuple(side[name].shape) if name in side else None for side in (state, tensors))
        reason = next((why for layer, why in new.items() if name.startswith(f"{layer}.")), None)
        if reason is None and wanted is not None and found is not None:
            fitting = _fitted(name, tensors[name], wanted, is_global=name in globals_)
            if fitting is not None:
                taken[name] = fitting[0]
                adapted |= {name: fitting[1]} if fitting[1] else {}
                continue
            reason = "other shape"
        missing = "not in the network" if wanted is None else "not in the weights"
        not_taken.append(NotTaken(name=name, wanted=wanted, found=found, reason=reason or missing))
    check_finite(taken, where)
    kept = [name for name in state if not name.startswith(tuple(f"{layer}." for layer in new))]
    return Transfer(
        tensors=taken,
        adapted=adapted,
        not_taken=tuple(not_taken),
        num_taken=sum(tensor.numel() for tensor in taken.values()),
        num_wanted=sum(state[name].numel() for name in kept),
    )


def _fitted(name: str, tensor: Tensor, wanted: Shape, *, is_global: bool) -> tuple[Tensor, str] | None:
    """A tensor at the shape that is wanted, and what was done to it, if anything; None where none fits."""
    found = tuple(tensor.shape)
    if found == wanted:
        return tensor, ""
    if name == _STEM:
        return _other_channels(tensor, wanted)
    if is_global and _is_inside(wanted, found):
        return _middle(tensor, wanted), f"its middle, {_sides(wanted)} of {_sides(found)} offsets"
    return None


def _other_channels(weight: Tensor, wanted: Shape) -> tuple[Tensor, str] | None:
    """The weights of a first convolution for another number of channels; None where that is not defined."""
    found = tuple(weight.shape)
    if len(found) != len(wanted) or found[:1] + found[2:] != wanted[:1] + wanted[2:]:
        return None
    old, new = found[1], wanted[1]
    if 1 < new < old:
        return None
    if new == 1:
        return weight.sum(1, keepdim=True), f"summed from {old} channels to 1"
    repeated = weight.repeat(1, math.ceil(new / old), 1, 1)[:, :new]
    return repeated * (old / new), f"repeated from {old} to {new} channels and scaled by {old}/{new}"


def _is_inside(wanted: Shape, found: Shape) -> bool:
    same = len(wanted) == len(found) and wanted[:2] == found[:2]
    return same and all(small <= large for small, large in zip(wanted, found, strict=True))


def _middle(table: Tensor, wanted: Shape) -> Tensor:
    for axis in range(2, table.ndim):
        table = table.narrow(axis, (table.shape[axis] - wanted[axis]) // 2, wanted[axis])
    return table


def _sides(shape: Shape) -> str:
    return "×".join(map(str, shape[2:]))
