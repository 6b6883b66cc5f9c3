"""`lambdanets doctor --dist`: try three collectives between processes, each with a time limit."""

import datetime
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist

from lambdanets.errors import DependencyError, StorageError
from lambdanets.launch.doctor import existing_part
from lambdanets.streams import print_error, print_line
from lambdanets.terminal import count
from lambdanets.training.torchrun import global_rank, launch, local_rank, world_size

# A process that hangs in a collective is ended a little later than the collective should have been.
_GRACE_S: Final = 10.0
_ADVICE: Final = (
    "Advice: every machine must reach the first one at MASTER_ADDR and MASTER_PORT (a firewall or a wrong"
    " network device is the usual cause: set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the device of"
    " `ip -brief address`); all machines need the same versions; NCCL_DEBUG=INFO shows more. Under SLURM,"
    " srun starts one torchrun on each machine and nothing else, as `lambdanets slurm` does."
)


def launch_locally(out: Path, backend: str, limit_s: float) -> int:
    """Start two processes on this machine that try the collectives; return the first exit code that is not 0.

    Here `auto` is gloo: the processes may have one GPU or none.
    """
    argv = ["doctor", "--dist", "--backend", "gloo" if backend == "auto" else backend]
    return launch([*argv, "--out", str(out), "--limit", f"{limit_s:g}"], num_processes=2)


def try_collectives(out: Path, backend: str, limit_s: float) -> int:
    """Join the other processes, try all_reduce, broadcast and barrier, and print where each process runs.

    The first process prints what was tried, and one line for each process: rank, machine and device.
    All must see what the first writes into the run folder `out`.

    Args:
        backend: `gloo`, `nccl`, or `auto`: nccl where each process of a machine has a GPU.
        limit_s: Longest time of joining and of each collective, in seconds.

    Returns:
        The exit code: 0 if all is well, 7 if the folder cannot be written, else 1.
    """
    rank, size = global_rank(), world_size()
    device = _device(backend)
    chosen = "nccl" if device.type == "cuda" else "gloo"

    def log(text: str) -> None:
        if rank == 0:
            print_line(text)

    @contextmanager
    def attempt(name: str) -> Iterator[None]:
        with _within(limit_s, name):
            yield
        log(f"ok   {name}")

    log(f"     {count(size, 'process')} through {chosen}, {limit_s:g} s each")
    # NCCL then raises at its limit, instead of ending the process.
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    limit = datetime.timedelta(seconds=limit_s)
    try:
        with _within(limit_s, "joining"):
            dist.init_process_group(chosen, timeout=limit)
        with attempt("all_reduce"):
            numbers = torch.full((1024,), float(rank + 1), device=device)
            dist.all_reduce(numbers)
            _require(bool((numbers == size * (size + 1) / 2).all()), "all_reduce gave a wrong sum")
        with attempt("broadcast"):
            numbers = torch.full((1024,), 7.0 if rank == 0 else 0.0, device=device)
            dist.broadcast(numbers, src=0)
            _require(bool((numbers == 7).all()), "broadcast gave other numbers than were sent")
        with attempt("barrier"):
            dist.barrier()
        with _within(limit_s, "seeing the folder"):
            lines = _placement(out, device, rank, size)
    except (RuntimeError, ValueError) as error:
        # Each process prints it: any may be the one that is cut off.
        _print_failure(rank, size, f"{error}\n{_ADVICE}")
        return 1
    except OSError as error:
        _print_failure(rank, size, f"{error}\nAdvice: --out must be a folder that can be written.")
        return StorageError.exit_code
    log("\n".join(lines))
    dist.destroy_process_group()
    return 0


def _print_failure(rank: int, size: int, text: str) -> None:
    print_error(f"BAD  process {rank} of {size} on {platform.node()}: {text}")


@contextmanager
def _within(limit_s: float, what: str) -> Iterator[None]:
    """End the process if a collective ignores its limit."""

    def end() -> None:
        print_error(f"BAD  {what} took longer than {limit_s:g} s.\n{_ADVICE}")
        os._exit(1)

    timer = threading.Timer(limit_s + _GRACE_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _device(backend: str) -> torch.device:
    number, num_gpus = local_rank(), torch.cuda.device_count()
    if backend == "gloo" or (backend == "auto" and number >= num_gpus):
        return torch.device("cpu")
    if number >= num_gpus:
        raise DependencyError(
            f"doctor: backend nccl needs a GPU for each process of a machine, got {num_gpus} for process"
            f" {number + 1}. Use --backend gloo."
        )
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def _placement(out: Path, device: torch.device, rank: int, size: int) -> list[str]:
    """Make a line for each process, and check that all see the folder and have the same versions."""
    mark = existing_part(out) / f".tmp-doctor-{os.environ['MASTER_PORT']}"
    if rank == 0:
        mark.touch()
    try:
        dist.barrier()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
        mine = {
            "rank": rank,
            "place": f"{platform.node()} -> {device} ({name})",
            "versions": f"python {platform.python_version()}, torch {torch.__version__}",
            "sees": mark.exists(),
        }
        everyone: list[Any] = [None] * size
        dist.all_gather_object(everyone, mine)
    finally:
        if rank == 0:
            mark.unlink(missing_ok=True)
    blind = ", ".join(str(one["rank"]) for one in everyone if not one["sees"])
    _require(not blind, f"processes {blind} do not see {mark.parent}; --out must be a shared folder")
    versions = sorted({one["versions"] for one in everyone})
    _require(len(versions) == 1, f"versions differ: {'; '.join(versions)}")
    return [f"     rank {one['rank']} -> {one['place']}" for one in everyone]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)
