"""The optimiser, and its state under the names of the parameters."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import SGD, AdamW, Optimizer

from lambdanets.errors import CheckpointError, DependencyError
from lambdanets.training.settings import OptimConfig


def make_optimizer(config: OptimConfig, groups: Iterable[dict[str, Any]]) -> Optimizer:
    """Make an optimiser: torch's SGD with Nesterov momentum or AdamW, timm's LAMB or TensorFlow-like RMSProp.

    Args:
        config: Its settings.
        groups: Parameter groups, each with its own `weight_decay`.

    Raises:
        DependencyError: timm is needed and not installed.
    """
    rate, momentum = config.learning_rate, config.momentum
    if config.name == "sgd":
        return SGD(groups, lr=rate, momentum=momentum, nesterov=True)
    if config.name == "adamw":
        betas = momentum, config.beta2 or 0.999
        return AdamW(groups, lr=rate, betas=betas, eps=config.epsilon or 1e-8)
    made: Optimizer
    if config.name == "lamb":
        betas = momentum, config.beta2 or 0.999
        # Gradients are shortened by the loop, for every optimiser alike.
        made = _timm("Lamb")(groups, lr=rate, betas=betas, eps=config.epsilon or 1e-6, max_grad_norm=None)
    else:
        made = _timm("RMSpropTF")(
            groups,
            lr=rate,
            alpha=config.beta2 or 0.9,
            eps=config.epsilon or 1e-3,
            momentum=momentum,
        )
    return made


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def gradient_norm(model: nn.Module) -> Tensor:
    """Give the Euclidean norm of all gradients together; not finite as soon as one of them is not."""
    return full_tensor(
        torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    )


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Collect what the optimiser remembers: `momentum_buffer/stem.weight` -> tensor.

    The rest of its state (learning rate, decay) is a function of the config and the step, apart from the
    counts that some keep for each group: `step/group 0`.
    """
    remembered = {
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
    return remembered | counts


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` collected, and forget the rest.

    Raises:
        CheckpointError: A name or a shape is not one of this model's.
    """
    optimizer.state.clear()
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        if name.startswith("group "):
            optimizer.param_groups[int(name.removeprefix("group "))][key] = value.clone()
            continue
        if name not in parameters:
            raise CheckpointError(
                f"restore_optimizer: state must belong to parameters of the model, got {full_name!r}."
            )
        parameter = parameters[name]
        if value.ndim and value.shape != parameter.shape:
            raise CheckpointError(
                f"restore_optimizer: {full_name} must have shape {tuple(parameter.shape)},"
                f" got {tuple(value.shape)}."
            )
        # Counts of steps stay on the processor, where the optimisers put them.
        optimizer.state[parameter][key] = distribute_like(parameter, value) if value.ndim else value.clone()


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which processes hold parts, put together; any other as it is."""
    if not isinstance(tensor, DTensor):
        return tensor
    put_together: Tensor = tensor.full_tensor()
    return put_together


def distribute_like(pattern: Tensor, value: Tensor) -> Tensor:
    """A copy of a whole tensor, on the device of a pattern and cut into parts as it is."""
    moved = value.to(pattern.device, copy=True)
    if not isinstance(pattern, DTensor):
        return moved
    parts: Tensor = distribute_tensor(moved, pattern.device_mesh, pattern.placements)
    return parts


def _timm(name: str) -> Any:
    try:
        import timm.optim
    except ImportError as error:
        raise DependencyError(
            f"make_optimizer: timm must be installed, got {str(error)!r}. pip install 'lambdanets[train]'."
        ) from error
    return getattr(timm.optim, name)
