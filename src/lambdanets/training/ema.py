"""The exponential moving average of a model, counted in optimiser steps."""

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lambdanets.errors import ArgumentError


class ExponentialMovingAverage:
    """A second model whose weights follow the first one slowly.

    After update t = 0, 1, 2, …: average ← average + (1 - dₜ)(model - average), dₜ = min(decay, (1 + t) /
    (10 + t)). The warm-up of dₜ lets the average forget the random start: without it a short run would be
    judged by weights it never trained. Covers parameters and floating buffers (the running statistics of
    batch norm); whole-number buffers are copied.

    Attributes:
        module: The averaged model, in evaluation mode.
        num_updates: Updates made so far, t of the next one.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError(
                f"ExponentialMovingAverage: decay must be at least 0 and below 1, got {decay}."
            )
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.num_updates = 0

    def decay_now(self) -> float:
        """The share that the next update keeps."""
        return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model; call it once after each optimiser step."""
        averages, targets = [], []
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if value.is_floating_point():
                averages.append(average)
                targets.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, targets, 1 - self.decay_now())
        self.num_updates += 1

    def half_life_steps(self) -> float:
        """Steps after which an old weight counts half, once warmed up."""
        return math.log(0.5) / math.log(self.decay) if self.decay else 0.0


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    # Not `state_dict`: it lists a shared tensor once for each of its names, which would average it twice.
    for tensor in (*model.parameters(), *model.buffers()):
        yield tensor.to_local() if isinstance(tensor, DTensor) else tensor
