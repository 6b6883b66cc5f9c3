"""Precision is decided by the inputs, not by autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def outside_autocast(tensor: Tensor) -> AbstractContextManager[None]:
    """A context in which autocast casts nothing on the tensor's device.

    Operators compute in the precision of their inputs, or in float32 where they say so. Under autocast
    the inputs are what projections and norms made of them, and that is where autocast acts.
    """
    device = tensor.device.type
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def product_precision(values: Tensor) -> torch.dtype:
    """What matrix products of these values are made in."""
    # Matrix products of a CPU in 16 bits are slow or inexact; a GPU's accumulate in 32.
    return torch.promote_types(values.dtype, torch.float32) if values.is_cpu else values.dtype
