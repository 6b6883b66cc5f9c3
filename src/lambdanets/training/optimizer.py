"""The optimiser, and its state under the names of the parameters."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lambdanets.errors import CheckpointError
from lambdanets.training.settings import OptimConfig


def make_optimizer(config: OptimConfig, groups: Iterable[dict[str, Any]]) -> SGD:
    """Make stochastic gradient descent with Nesterov momentum.

    Args:
        config: Its settings.
        groups: Parameter groups, each with its own `weight_decay`.
    """
    return SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=True)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def gradient_norm(model: nn.Module) -> Tensor:
    """Give the Euclidean norm of all gradients together; not finite as soon as one of them is not."""
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Collect what the optimiser remembers: `momentum_buffer/stem.weight` -> tensor.

    The rest of its state (learning rate, decay) is a function of the config and the step.
    """
    return {
        f"{key}/{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` collected.

    Raises:
        CheckpointError: A name or a shape is not one of this model's.
    """
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
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
        optimizer.state[parameter][key] = value.to(parameter.device)
