"""The optimiser, its learning rate, its state by the names of the parameters, and the EMA of the model."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import SGD, AdamW, Optimizer

from lambdanets.dependencies import missing_library
from lambdanets.errors import ArgumentError, CheckpointError
from lambdanets.training.config import OptimConfig

# The derived EMA is a mean over about the last one of so many parts of a run, and never over more steps than
# that of this decay.
_EMA_PART: Final = 20
_LONGEST_EMA: Final = 0.9999


def make_optimizer(config: OptimConfig, groups: Iterable[dict[str, Any]]) -> Optimizer:
    """Make an optimiser: torch's SGD with Nesterov momentum or AdamW, timm's LAMB or TensorFlow-like RMSProp.

    Each of the parameter groups has its own `weight_decay`, and may have an `lr_scale`.
    """
    groups = [{"lr": config.learning_rate * group.get("lr_scale", 1.0), **group} for group in groups]
    lr, momentum, betas = config.learning_rate, config.momentum, (config.momentum, config.beta2 or 0.999)
    if config.name == "sgd":
        return SGD(groups, lr=lr, momentum=momentum, nesterov=True)
    if config.name == "adamw":
        return AdamW(groups, lr=lr, betas=betas, eps=config.epsilon or 1e-8)
    try:
        from timm.optim.lamb import Lamb
        from timm.optim.rmsprop_tf import RMSpropTF
    except ImportError as error:
        raise missing_library("make_optimizer", "timm", repr(str(error))) from error
    if config.name == "lamb":
        # The loop clips gradients, for every optimiser alike.
        return Lamb(groups, lr=lr, betas=betas, eps=config.epsilon or 1e-6, max_grad_norm=None)
    alpha, eps = config.beta2 or 0.9, config.epsilon or 1e-3
    return RMSpropTF(groups, lr=lr, alpha=alpha, eps=eps, momentum=momentum)


def scheduled_learning_rate(
    step: int,
    *,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    interval: float | None = None,
    points: Sequence[float] = (),
    factor: float | None = None,
) -> float:
    """Give the learning rate of one step: a linear warm-up, then half a cosine or a factor at each interval.

    With s = step, w = warmup_steps and t = total_steps: peak · (s + 1) / (w + 1) for s < w, then
    peak · (1 + cos(π (s - w) / (t - w))) / 2, or peak · factor^⌊s / interval⌋ where both are given, or
    peak · factor^|{p ∈ points: s ≥ p}|. The first step already moves, step w has the peak, and step t (never
    taken) would have zero under the cosine. The interval and the points, in steps, may be fractions.

    Paper: §E.2 (linear warm-up, then cosine; MobileNet: 0.99 every 3 epochs; detection: 0.1 at three points).

    Example:
        >>> scheduled_learning_rate(5, peak=0.5, warmup_steps=0, total_steps=10)
        0.25
        >>> scheduled_learning_rate(7, peak=0.5, warmup_steps=0, total_steps=10, interval=3.0, factor=0.5)
        0.125
    """
    if not 0 <= warmup_steps < total_steps:
        raise ArgumentError(
            f"scheduled_learning_rate: warmup_steps must be at least 0 and below total_steps={total_steps},"
            f" got {warmup_steps}."
        )
    if not 0 <= step <= total_steps:
        raise ArgumentError(
            f"scheduled_learning_rate: step must lie between 0 and total_steps={total_steps}, got {step}."
        )
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if points and factor is not None:
        return float(peak * factor ** sum(step >= point for point in points))
    if interval is not None and factor is not None:
        return float(peak * factor ** math.floor(step / interval))
    return peak * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every group the same learning rate, times its `lr_scale` if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def gradient_norm(model: nn.Module) -> Tensor:
    """Give the Euclidean norm of all gradients together; not finite as soon as one of them is not."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return full_tensor(torch.nn.utils.get_total_norm(gradients))


def optimizer_state(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Collect the full tensors of an optimiser's state: `momentum_buffer/stem.weight` -> tensor.

    The rest of its state (learning rate, decay) is a function of the config and the step, apart from the
    counts that some keep for each group: `step/group 0`.
    """
    states = {
        f"{key}/{name}": full_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    counts = {
        f"step/group {number}": group["step"]
        for number, group in enumerate(optimizer.param_groups)
        if isinstance(group.get("step"), Tensor)
    }
    return states | counts


def load_optimizer_state(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what `optimizer_state` collected, in place of any other state."""
    optimizer.state.clear()
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        number = name.removeprefix("group ")
        if number != name and number.isdigit() and int(number) < len(optimizer.param_groups):
            optimizer.param_groups[int(number)][key] = value.clone()
            continue
        if name not in parameters:
            raise CheckpointError(
                f"load_optimizer_state: state must belong to parameters of the model, got {full_name!r}."
            )
        parameter = parameters[name]
        if value.ndim and value.shape != parameter.shape:
            raise CheckpointError(
                f"load_optimizer_state: {full_name} must have shape {tuple(parameter.shape)},"
                f" got {tuple(value.shape)}."
            )
        # Counts of steps stay on the CPU, where the optimisers put them.
        optimizer.state[parameter][key] = distribute_like(parameter, value) if value.ndim else value.clone()


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor that is sharded over processes; give any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def distribute_like(pattern: Tensor, value: Tensor) -> Tensor:
    """Copy a full tensor to the device of a pattern, sharded as the pattern is."""
    moved = value.to(pattern.device, copy=True)
    if isinstance(pattern, DTensor):
        return distribute_tensor(moved, pattern.device_mesh, pattern.placements)
    return moved


def derived_ema_decay(num_steps: int) -> float:
    """Give an EMA decay that fits a run: 1 - 20 / num_steps, at least 0 and at most 0.9999.

    The EMA is a mean over about the last 1 / (1 - decay) steps: here over the last twentieth of the run. By
    then half a cosine has taken the learning rate below 1 % of its peak, so what the EMA lags behind is
    little, while a mean over many steps still takes the noise out. A fixed decay does both only for one
    length of run. The warm-up of `ExponentialMovingAverage` alone would be a mean over the last ninth, and
    so would any decay above 1 - 9 / num_steps. Up to 20 steps the EMA is the network itself; from 200,000
    on the decay is the 0.9999 of long trainings.

    Paper: none (ours); its published trainings have 0.9999.

    Args:
        num_steps: The steps of the whole run.

    Example:
        >>> derived_ema_decay(500)
        0.96
    """
    return min(max(1 - _EMA_PART / max(num_steps, 1), 0.0), _LONGEST_EMA)


def ema_half_life(decay: float) -> float:
    """Steps after which an old weight counts half in an EMA, once warmed up."""
    return math.log(0.5) / math.log(decay) if decay else 0.0


class ExponentialMovingAverage:
    """A second model whose weights follow those of the first one slowly.

    At update t = 0, 1, 2, …: ema ← ema + (1 - dₜ)(model - ema), dₜ = min(decay, (1 + t) / (10 + t)). The
    warm-up of dₜ lets the EMA forget the random start: without it a short run would be judged by weights
    that it never trained. Covers parameters and floating buffers (the running statistics of batch norm);
    integer buffers are copied.

    Attributes:
        module: The EMA model, in evaluation mode.
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

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the EMA towards the model; call it once after each optimiser step."""
        ema_tensors, tensors = [], []
        for ema, tensor in zip(_local_tensors(self.module), _local_tensors(model), strict=True):
            if tensor.is_floating_point():
                ema_tensors.append(ema)
                tensors.append(tensor)
            else:
                ema.copy_(tensor)
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(ema_tensors, tensors, 1 - decay)
        self.num_updates += 1


def _local_tensors(model: nn.Module) -> Iterator[Tensor]:
    # Not `state_dict`: it lists a shared tensor once for each of its names, which would average it twice.
    for tensor in (*model.parameters(), *model.buffers()):
        yield tensor.to_local() if isinstance(tensor, DTensor) else tensor
