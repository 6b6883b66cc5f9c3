"""One update of the weights: forward and backward in parts, and the agreement of all processes on it."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_

from lambdanets.data.task import Batch
from lambdanets.errors import NumericError
from lambdanets.training.config import TrainConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.optimizer import gradient_norm, set_learning_rate
from lambdanets.training.state import TrainState

# From images, classes and `words`, the seed of the mixture.
Mix = Callable[..., tuple[Tensor, Tensor]]

_PRECISIONS: Final = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What all processes know after a step.

    Attributes:
        fault: What was not finite, in words; none if the update was made or the scaler passed over it.
        flags: The flags of all processes, added up.
    """

    fault: str | None
    flags: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Makes updates of one state.

    Attributes:
        config: The settings.
        ctx: This process among the others.
        prepare: From images as they come to what the network takes, on its device.
        mix: Mixes images and their classes; none without mixup and cutmix.
    """

    config: TrainConfig
    ctx: DistributedContext
    prepare: Callable[[Tensor], Tensor]
    mix: Mix | None = None

    def precision(self) -> torch.dtype | None:
        """What products are computed in under autocast; none for float32 throughout."""
        return autocast_dtype(self.config.exec.precision, self.ctx.device)

    def step(
        self,
        state: TrainState,
        batch: Batch,
        num_images: int,
        learning_rate: float,
        flags: tuple[float, ...] = (),
    ) -> Outcome:
        """Make one update of the weights and of their average, or say why not.

        Args:
            state: Changed in place; after a fault its running statistics have seen the batch,
                and the rest is as before.
            batch: This process's share.
            num_images: Of all shares together.
            learning_rate: Of this step.
            flags: Added up over all processes.
        """
        seed_step(self.config.seed, state.step, self.ctx.rank)
        state.optimizer.zero_grad(set_to_none=True)
        loss_sum, correct = self._forward_backward(state, batch, num_images)
        if state.scaler:
            state.scaler.unscale_(state.optimizer)
        norm = gradient_norm(state.model)
        totals = self.ctx.sum_values([loss_sum, correct, len(batch.images), *flags])
        fault = self._fault(state, totals[0] / num_images, norm)
        if fault is None:
            self._update(state, norm, learning_rate)
            state.meter.add(totals[0], round(totals[1]), round(totals[2]))
        elif state.scaler:
            # It has looked at the gradients, and must be told that they are done with.
            state.scaler.update()
        return Outcome(fault=fault, flags=tuple(totals[3:]))

    def _forward_backward(self, state: TrainState, batch: Batch, num_images: int) -> tuple[float, float]:
        parts = self.config.exec.accumulation
        device, precision = self.ctx.device, self.precision()
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        pairs = zip(batch.images.tensor_split(parts), batch.targets.tensor_split(parts), strict=True)
        for number, (images, targets) in enumerate(pairs):
            images = self.prepare(images.to(device, non_blocking=True))
            targets = targets.to(device, non_blocking=True)
            if self.mix:
                words = (self.config.seed, state.step, self.ctx.rank, number)
                images, targets = self.mix(images, targets, words=words)
            with _unsynchronized(state.ddp_model, number < parts - 1):
                with torch.autocast(device.type, precision, enabled=precision is not None):
                    logits = state.ddp_model(images)
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                if targets.is_floating_point():
                    targets = targets.to(logits.dtype)
                loss = cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
                # By images, so that unequal parts count as they would in one batch. DDP takes the mean.
                weight = len(images) / num_images * self.ctx.size
                weighted = loss * weight
                (state.scaler.scale(weighted) if state.scaler else weighted).backward()
            sums[0] += loss.detach() * len(images)
            sums[1] += (logits.detach().argmax(dim=1) == classes(targets)).sum()
        loss_sum, correct = sums.tolist()
        return loss_sum, correct

    def _fault(self, state: TrainState, loss: float, norm: Tensor) -> str | None:
        if not math.isfinite(loss):
            return f"loss must be finite, got {loss}"
        # The scaler tries scales until one overflows: that is its way, and no fault.
        if not state.scaler and not torch.isfinite(norm):
            return f"gradient norm must be finite, got {norm.item()}"
        return None

    def _update(self, state: TrainState, norm: Tensor, learning_rate: float) -> None:
        set_learning_rate(state.optimizer, learning_rate)
        longest = self.config.optim.clip_grad_norm
        if longest and torch.isfinite(norm):
            clip_grads_with_norm_(state.model.parameters(), longest, norm)
        if state.scaler:
            state.scaler.step(state.optimizer)
            state.scaler.update()
        else:
            state.optimizer.step()
        # An update that the scaler passed over moved nothing: it does not count for the average.
        if not state.scaler or torch.isfinite(norm):
            self.ctx.average_buffers(state.model)
            state.ema.update(state.model)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed what dropout and stochastic depth draw from: a resumed run draws the same."""
    words = (seed, step, rank) if rank else (seed, step)
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1)[0]))


def autocast_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """The type of products under autocast, none for float32; auto is bfloat16 on a GPU that has it."""
    if name == "auto":
        has_it = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_it else None
    return _PRECISIONS[name]


def classes(targets: Tensor) -> Tensor:
    """The class of each image, the largest where it is shared among several."""
    return targets.argmax(dim=1) if targets.ndim == 2 else targets


def raise_fault(fault: str, step: int) -> None:
    """Raise what stops a run.

    Raises:
        NumericError: Always.
    """
    raise NumericError(
        f"fit: {fault} at step {step}; the update was not made. Use a lower learning rate, a longer warm-up"
        " or --faults.nonfinite skip."
    )


def _unsynchronized(network: nn.Module, more_to_come: bool) -> contextlib.AbstractContextManager[Any]:
    # Gradients are added up between processes once, with the last part.
    if more_to_come and isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return contextlib.nullcontext()
