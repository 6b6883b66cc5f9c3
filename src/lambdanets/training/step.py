"""One training step: forward and backward, the agreement of all processes, the update, the EMA."""

import contextlib
import math
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_

from lambdanets.data.task import Batch
from lambdanets.training.config import RunConfig
from lambdanets.training.distributed import ALONE, DistributedContext, autocast_dtype
from lambdanets.training.objective import Objective
from lambdanets.training.optimizer import gradient_norm
from lambdanets.training.state import TrainState


def train_step(
    state: TrainState,
    batch: Batch,
    num_images: int,
    *,
    config: RunConfig,
    objective: Objective,
    ctx: DistributedContext = ALONE,
    flags: tuple[float, ...] = (),
) -> tuple[str | None, list[float]]:
    """Make one update of the weights and of the EMA, if the loss and the gradient are finite.

    Args:
        state: Changed in place; where something is not finite, only the running statistics have seen the
            batch.
        batch: This process's shard.
        num_images: Images of all shards together.
        objective: What is minimised.
        flags: Summed over all processes, together with the loss.

    Returns:
        What was not finite, so that the update was not made, or None; and the sums of the flags. Both are
        equal in all processes.
    """
    # What dropout and stochastic depth draw from: a resumed run draws the same.
    words = (config.seed, state.step, ctx.rank) if ctx.rank else (config.seed, state.step)
    torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1)[0]))
    state.optimizer.zero_grad(set_to_none=True)
    own = _forward_backward(state, batch, num_images, config=config, objective=objective, ctx=ctx)
    if state.scaler:
        state.scaler.unscale_(state.optimizer)
    norm = gradient_norm(state.model)
    norm_is_finite = bool(torch.isfinite(norm))
    loss_sum, count, *sums = ctx.sum_values([own[0], len(batch.images), *own[1:], *flags])
    counts, sums = sums[: len(objective.counted)], sums[len(objective.counted) :]
    nonfinite = None
    if not math.isfinite(loss_sum / num_images):
        nonfinite = f"loss must be finite, got {loss_sum / num_images}"
    # The scaler tries scales until one overflows, which is no fault.
    elif not state.scaler and not norm_is_finite:
        nonfinite = f"gradient norm must be finite, got {norm.item()}"
    if nonfinite is None:
        if config.optim.clip_grad_norm and norm_is_finite:
            clip_grads_with_norm_(state.model.parameters(), config.optim.clip_grad_norm, norm)
        if state.scaler:
            state.scaler.step(state.optimizer)
            state.scaler.update()
        else:
            state.optimizer.step()
        # Where the scaler skipped the update, nothing moved: the EMA does not count it.
        if norm_is_finite:
            ctx.average_buffers(state.model)
            state.ema.update(state.model)
        state.meter.loss_sum += loss_sum
        state.meter.count += round(count)
        for name, value in zip(objective.counted, counts, strict=True):
            state.meter.sums[name] = state.meter.sums.get(name, 0.0) + value
    elif state.scaler:
        # It has unscaled the gradients, and must know that they are not used.
        state.scaler.update()
    return nonfinite, sums


def _forward_backward(
    state: TrainState,
    batch: Batch,
    num_images: int,
    *,
    config: RunConfig,
    objective: Objective,
    ctx: DistributedContext,
) -> list[float]:
    """Add up the gradients of the batch, part by part; give the sum of the losses and what is counted."""
    model: Any = state.ddp_model
    parts, dtype = config.exec.accumulation, autocast_dtype(config.exec.precision, ctx.device)
    sums = torch.zeros(1 + len(objective.counted), dtype=torch.float64, device=ctx.device)
    for number, part in enumerate(batch.split(parts)):
        # Gradients are summed over the processes once, with the last part.
        waits = number < parts - 1 and isinstance(model, DistributedDataParallel)
        with model.no_sync() if waits else contextlib.nullcontext():
            loss, counts = objective.loss(
                model, part, ctx=ctx, dtype=dtype, seed=(config.seed, state.step, ctx.rank, number)
            )
            # By images, so that unequal parts count as they would in one batch. DDP takes the mean.
            weighted = loss * (len(part.images) / num_images * ctx.size)
            (state.scaler.scale(weighted) if state.scaler else weighted).backward()
        sums[0] += loss.detach() * len(part.images)
        sums[1:] += counts
    return sums.tolist()
