"""A network made ready for its device and for other processes, with its average and its optimiser."""

import copy
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from lambdanets.errors import ArgumentError
from lambdanets.training.config import TrainConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.ema import ExponentialMovingAverage
from lambdanets.training.optimizer import make_optimizer
from lambdanets.training.settings import ExecConfig
from lambdanets.training.state import TrainState
from lambdanets.training.step import autocast_dtype

Groups = Callable[[nn.Module], list[dict[str, Any]]]


def init_train_state(
    model: nn.Module, config: TrainConfig, ctx: DistributedContext, groups: Groups
) -> TrainState:
    """Make what a run changes, from a network with its first weights.

    Args:
        model: On any device, equal in all processes.
        config: The settings.
        ctx: This process among the others.
        groups: Makes the optimiser's parameter groups of the network.

    Raises:
        ArgumentError: The network or the device cannot do what `exec` asks for.
    """
    model = placed(model, config.exec, ctx)
    ema = ExponentialMovingAverage(model, config.ema_decay)
    whole = ema.module
    if config.exec.parallel == "fsdp" and ctx.size > 1:
        whole = copy.deepcopy(model).eval().requires_grad_(False)
        _shard(model, ctx)
        _shard(ema.module, ctx)
    return TrainState(
        model=model,
        ema=ema,
        full_ema_model=whole,
        optimizer=make_optimizer(config.optim, groups(model)),
        ddp_model=_wrapped(model, config.exec, ctx),
        scaler=_scaler(config.exec, ctx),
    )


def placed(model: nn.Module, config: ExecConfig, ctx: DistributedContext) -> nn.Module:
    """Put a network on its device, in the order in memory and with the switches of the settings."""
    model = model.to(ctx.device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.gradient_checkpointing:
        switch = getattr(model, "set_gradient_checkpointing", None)
        if switch is None:
            raise ArgumentError(
                "exec.gradient_checkpointing must be off for a network without that switch, got"
                f" {type(model).__name__}."
            )
        switch(True)
    if config.sync_batch_norm and ctx.size > 1:
        if ctx.device.type == "cpu":
            raise ArgumentError(
                "exec.sync_batch_norm must be off on a CPU, got on. Torch has it for GPUs alone."
            )
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.deterministic and ctx.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return model


def _wrapped(model: nn.Module, config: ExecConfig, ctx: DistributedContext) -> nn.Module:
    if config.compile:
        # The bare model, in place: the names of its weights stay as they are.
        model.compile()
    if ctx.size == 1 or config.parallel == "fsdp":
        return model
    devices = [ctx.device.index] if ctx.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


def _shard(model: nn.Module, ctx: DistributedContext) -> None:
    mesh = init_device_mesh(ctx.device.type, (ctx.size,))
    for stage in model.children():
        if isinstance(stage, nn.Sequential | nn.ModuleList):
            for block in stage:
                if any(parameter.ndim for parameter in block.parameters()):
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _scaler(config: ExecConfig, ctx: DistributedContext) -> GradScaler | None:
    needed = autocast_dtype(config.precision, ctx.device) == torch.float16
    return GradScaler(ctx.device.type) if needed else None
