"""The supplies of a machine: shared memory, open files, names on the disk, a clock; each with a remedy."""

import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from torch import Tensor

from lambdanets.terminal import count

# Where workers put their batches, in Linux.
SHARED_MEMORY: Final = "/dev/shm"
# Docker gives 64 MB.
_LITTLE_SHARED: Final = 1_000_000_000
# Files that a process with a few workers has open, and that some checkpoints and a report add to a disk.
_FEW_OPEN: Final = 256
_FEW_FILES: Final = 1000
# Batches that torch's loader lets each worker make ahead of those that were asked for.
_AHEAD: Final = 2
# Seconds that the clocks of a machine and of the server of its disk may differ.
_SKEW_S: Final = 60.0


class Supply(NamedTuple):
    """What there is of one thing, and what to do where that is little.

    Attributes:
        name: The thing.
        text: How much there is.
        advice: What to do; empty where it is enough.
    """

    name: str
    text: str
    advice: str = ""


def supplies(folder: Path) -> Iterator[Supply]:
    """Look at what a machine gives to any run.

    Args:
        folder: The run folder, or the part of its path that is there.
    """
    memory, advice = _shared_memory(), ""
    if memory is not None:
        if memory[0] < _LITTLE_SHARED:
            advice = "Batches of workers must fit: docker run --shm-size 8g, or --exec.num-workers 0."
        yield Supply(SHARED_MEMORY, f"{memory[0] / 1e9:.2f} of {memory[1] / 1e9:.2f} GB free", advice)
    yield _open_files()
    yield from _free_files(folder)
    yield _clock(folder)


def _shared_memory() -> tuple[int, int] | None:
    """Free and total bytes of shared memory; None where the system has no such place."""
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
    except OSError:
        return None
    return usage.free, usage.total


def _open_files() -> Supply:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit:,} in a process"
    advice = "Workers and shards need more: ulimit -n 65536" if 0 <= limit < _FEW_OPEN else ""
    return Supply("open files", text, advice)


def _free_files(folder: Path) -> Iterator[Supply]:
    status = os.statvfs(folder)
    # Some file systems make room for names as they need it.
    if status.f_files:
        free = status.f_favail
        advice = "Delete small files there, or use another --out." if free < _FEW_FILES else ""
        yield Supply("inodes", f"{free:,} files more fit on the disk of {folder}", advice)


def _clock(folder: Path) -> Supply:
    """Compare the clock with the times of what a run has written."""
    times = [0.0]
    for path in (folder, *folder.glob("*"), *folder.glob("checkpoints/*")):
        try:
            times.append(path.lstat().st_mtime)
        except OSError:
            continue
    ahead = max(times) - time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S %z")
    if ahead < _SKEW_S:
        return Supply("clock", text)
    advice = "Set the clock: dates in logs would be wrong; training itself goes by steps."
    return Supply("clock", f"{text}, {ahead:,.0f} s behind files of {folder}", advice)


def shared_memory_warning(batch: Any, num_images: int, num_workers: int) -> str | None:
    """Compare the batches of workers that are on their way with the shared memory that is free.

    Args:
        batch: A batch of one image.
        num_images: Images of a batch.
        num_workers: Workers of all processes of this machine.
    """
    memory = _shared_memory()
    needed = num_workers * _AHEAD * num_images * _num_bytes(batch)
    if memory is None or needed <= memory[0]:
        return None
    gigabytes = -(-2 * needed // 10**9)
    return (
        f"batches of {count(num_workers, 'worker')} need {needed / 1e9:.2f} GB of shared memory,"
        f" and {memory[0] / 1e9:.2f} GB are free in /dev/shm. Use fewer --exec.num-workers (0: none), or give"
        f" a container more: docker run --shm-size {gigabytes}g"
    )


def _num_bytes(value: Any) -> int:
    """The bytes of all tensors in a batch."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_num_bytes, value.values()))
    return sum(map(_num_bytes, value)) if isinstance(value, list | tuple) else 0
