"""The norms of a detector: one word replaces them in backbone, pyramid and heads, and they can be counted."""

from collections import Counter
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torchvision.ops import FrozenBatchNorm2d

# What a group norm has: at most this many groups, of at least this many channels.
_MOST_GROUPS: Final = 32
_LEAST_CHANNELS: Final = 8

_NORMS: Final = (BatchNorm, FrozenBatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def replace_norms(module: nn.Module, norm: str) -> None:
    """Replace every batch norm inside a module, those of lambda layers too, in place.

    Scales and shifts are kept. Layer norms, as some models of timm have them, stay what they are.

    Args:
        module: Any module.
        norm: `"batch"` leaves everything; `"sync"` gives norms over the images of all processes; `"frozen"`
            gives constant maps with the running statistics, scales and shifts of now; `"group"` gives norms
            over at most 32 groups of channels, of at least 8 each.
    """
    if norm == "batch":
        return
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, nn.SyncBatchNorm):
                setattr(parent, name, _replaced(child, norm))


def _replaced(batch_norm: nn.BatchNorm2d, norm: str) -> nn.Module:
    # timm has batch norms that are their activation too, which goes behind what replaces them.
    behind = [one for one in (getattr(batch_norm, name, None) for name in ("drop", "act")) if one is not None]
    new = {"sync": nn.SyncBatchNorm.convert_sync_batchnorm, "frozen": _frozen, "group": _group}[norm](
        batch_norm
    )
    return nn.Sequential(new, *behind) if behind else new


def _frozen(batch_norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(batch_norm.num_features, batch_norm.eps).to(batch_norm.weight)
    frozen.load_state_dict(batch_norm.state_dict())
    return frozen


def _group(batch_norm: nn.BatchNorm2d) -> nn.GroupNorm:
    channels = batch_norm.num_features
    most = max(1, min(_MOST_GROUPS, channels // _LEAST_CHANNELS))
    groups = max(number for number in range(1, most + 1) if channels % number == 0)
    group = nn.GroupNorm(groups, channels, batch_norm.eps).to(batch_norm.weight)
    group.load_state_dict(batch_norm.state_dict(), strict=False)
    return group


def count_norms(module: nn.Module) -> dict[str, int]:
    """The norms inside a module: their class's name and how many there are of it."""
    return dict(Counter(type(one).__name__ for one in module.modules() if isinstance(one, _NORMS)))
