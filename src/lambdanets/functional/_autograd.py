"""Autograd functions that are called often."""

import inspect
from typing import TypeVar

import torch

Function = TypeVar("Function", bound=type[torch.autograd.Function])


def called_often(function: Function) -> Function:
    """Write down the signature of `forward`, which torch would work out again at each call."""
    forward = function.forward
    vars(forward)["__signature__"] = inspect.signature(forward)
    return function
