"""The processes of a run: what they agree on, and how a model is made ready for them and their devices."""

import atexit
import contextlib
import datetime
import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from lambdanets.errors import ArgumentError, DataError, DependencyError, LostProcessError, first_line
from lambdanets.processes import die_with_parent
from lambdanets.streams import print_error
from lambdanets.training.config import ExecConfig
from lambdanets.variables import World, launcher_variables, read_address, read_world
from lambdanets.waiting import Beside, wait_for

T = TypeVar("T")

_PRECISIONS: Final = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Seconds after which a process says that it waits for others; and more than the limit that torch keeps.
_SILENT_S: Final = 10.0
_LATER_S: Final = 5.0

# Process groups, kept to the end of the program. Else DDP's destructor would be what ends one: it waits for
# gloo's threads while it holds Python's lock, and they may wait for that lock to drop a tensor.
_groups: list[Any] = []


@atexit.register
def _end_groups() -> None:
    """Wait for gloo's threads: one that drops a tensor while the interpreter ends would abort the process."""
    if _groups:
        # The last DDP is gone by now, unless a cycle holds it.
        gc.collect()
        _groups.clear()


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """One process among those of a run.

    Attributes:
        rank: Its number over all machines.
        size: How many there are.
        device: What it computes on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def shard(self, indices: Tensor) -> Tensor:
        """This process's shard of a batch's indices: equal shards, or the first ones larger by one."""
        return indices.tensor_split(self.size)[self.rank]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes; integers are exact."""
        if self.size == 1:
            return tensor
        total = tensor.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device)

    def sum_values(self, values: Sequence[float | int]) -> list[float]:
        """Sum each of some numbers over all processes."""
        if self.size == 1:
            return [float(value) for value in values]
        return self.all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()

    def all_gather(self, value: T) -> list[T]:
        """Gather the value of each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, make: Callable[[], T]) -> T:
        """Call `make` in the main process; its result, or its error, is that of every process."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def agree(self, make: Callable[[], T], requirement: str) -> T:
        """The result of `make` in this process, once every process has one; an error in one is one in all.

        Args:
            make: Called in each process; it must not wait for the others.
            requirement: First half of the `DataError` where another process failed, such as
                `eval: every process must load the run`.
        """
        failure: Exception | None = None
        try:
            made = make()
        except Exception as error:
            failure = error
        (failures,) = self.sum_values([failure is not None])
        if failure is not None:
            raise failure
        if failures:
            raise DataError(f"{requirement}, got an error in another one; what that one printed says why.")
        return made

    def average_buffers(self, model: torch.nn.Module) -> None:
        """Make running statistics equal everywhere: the mean of what the processes have.

        Norms in evaluation mode, as in frozen stages, are equal anyway, and a mean of three would round them.
        """
        still = {id(one) for part in model.modules() if not part.training for one in part.buffers(False)}
        buffers = [one for one in model.buffers() if one.is_floating_point() and id(one) not in still]
        if self.size == 1 or not buffers:
            return
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


# The only process of a run on the CPU.
ALONE: Final = DistributedContext()


@contextmanager
def init_distributed(config: ExecConfig) -> Iterator[DistributedContext]:
    """Join the processes that torchrun started, if it did; leave them at the end.

    Raises:
        ArgumentError: The variables of the launcher do not fit one another.
        DependencyError: There are fewer GPUs on this machine than processes, or none at all.
        LostProcessError: Another process has ended, or did not come in time.
    """
    world = read_world()
    rank, size = world.rank, world.size
    device = select_device("exec", config.device, world.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        yield DistributedContext(device=device)
        return
    _join(world, "nccl" if device.type == "cuda" else "gloo", config.timeout_s)
    _groups.append(dist.group.WORLD)
    die_with_parent()
    try:
        yield DistributedContext(rank=rank, size=size, device=device)
    except RuntimeError as error:
        # Also what a process raises that waits for one that is gone.
        if isinstance(error, dist.DistError) or any(name in str(error) for name in ("gloo", "NCCL")):
            raise LostProcessError(
                f"process {rank} waited for another one that has ended; that one's message says why."
            ) from error
        raise
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dist.destroy_process_group()


def _join(world: World, backend: str, limit_s: float) -> None:
    """Meet the other processes.

    Raises:
        LostProcessError: They did not come in time, or cannot be reached.
    """
    address, limit = read_address(), datetime.timedelta(seconds=limit_s)

    def join() -> None:
        store, _, _ = next(rendezvous("env://", timeout=limit))
        # torchrun keeps the store when it starts the processes again, and so the addresses of the dead.
        store = dist.PrefixStore(f"attempt {world.restarts}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=limit)

    def lost(reason: str) -> LostProcessError:
        return LostProcessError(
            f"process {world.rank} must meet the others of {world.size} at {address} within {limit_s:g} s,"
            f" got {reason}. `lambdanets doctor --dist` tries it; if there are no others: unset"
            f" {launcher_variables()}"
        )

    told = f"process {world.rank} waits for the others of {world.size} at {address}, {limit_s:g} s at most"
    notice = threading.Timer(_SILENT_S, print_error, [told])
    notice.daemon = True
    notice.start()
    # Beside: torch does not hear of Ctrl-C while it waits, and has no limit for each part of it.
    with contextlib.closing(Beside()) as beside:
        try:
            wait_for(beside.submit(join), limit_s + _LATER_S, lambda: lost("nobody"))
        except (RuntimeError, ValueError, OSError) as error:
            if isinstance(error, LostProcessError):
                raise
            raise lost(f"'{first_line(error)}'") from error
        finally:
            notice.cancel()


def select_device(who: str, name: str, number: int = 0) -> torch.device:
    """Select the device of the process `number` of a machine: cpu, cuda, or auto: cuda where there is one."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if number >= found:
        raise DependencyError(
            f"{who}: device cuda needs a GPU for each process of a machine, got {found} for process"
            f" {number + 1}. Start fewer processes, or use the device cpu."
        )
    return torch.device("cuda", number)


def autocast_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """The dtype of products under autocast, none for float32; auto is bfloat16 on a GPU that has it."""
    if name == "auto":
        has_it = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_it else None
    return _PRECISIONS[name]


def prepare_model(model: nn.Module, config: ExecConfig, ctx: DistributedContext) -> nn.Module:
    """Move a model to its device, with the memory format and the switches of the settings."""
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
    _check_norms(model, ctx)
    if config.deterministic and ctx.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return model


def _check_norms(model: nn.Module, ctx: DistributedContext) -> None:
    """Raise where norms would have to be synchronised on CPUs: torch says so only at the first step."""
    synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    if synchronised and ctx.size > 1 and ctx.device.type == "cpu":
        raise ArgumentError(
            f"prepare_model: norms must be of one process each on a CPU, got SyncBatchNorm in {ctx.size}"
            " processes. Torch has it for GPUs alone: use --detector.norm group or batch."
        )


def wrap_model(model: nn.Module, config: ExecConfig, ctx: DistributedContext) -> nn.Module:
    """Compile a model if `exec` asks for it, and wrap it in DDP where other processes hold all of it too."""
    if config.compile:
        # The bare model, in place: the names of its weights stay as they are.
        model.compile()
    if ctx.size == 1 or config.parallel == "fsdp":
        return model
    devices = [ctx.device.index] if ctx.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


def shard_model(model: nn.Module, ctx: DistributedContext) -> None:
    """Shard a model over the processes by FSDP2, block by block."""
    mesh = init_device_mesh(ctx.device.type, (ctx.size,))
    for stage in model.children():
        if isinstance(stage, nn.Sequential | nn.ModuleList):
            for block in stage:
                if any(parameter.ndim for parameter in block.parameters()):
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
