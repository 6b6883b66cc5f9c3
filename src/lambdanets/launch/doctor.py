"""`lambdanets doctor`: libraries, devices and disk of a machine, each finding with what to do about it."""

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch

from lambdanets.dependencies import install_command, requirements
from lambdanets.errors import ArgumentError, DependencyError, StorageError
from lambdanets.files import flush, write_flushed
from lambdanets.terminal import count, pairs
from lambdanets.training.machine import supplies
from lambdanets.variables import read_address, read_world

# Bytes of the write test, and what a disk should do in a second.
_WRITTEN: Final = 32_000_000
_SLOW_BYTES_PER_S: Final = 20_000_000
_LITTLE_FREE: Final = 10_000_000_000
_SHARED: Final = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "fuse.", "9p", "afs", "glusterfs")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked; as text one line, and a second with the advice.

    Attributes:
        name: Its name.
        text: The result.
        advice: What to do; empty where all is well.
        exit_code: 0 unless a run would fail.
    """

    name: str
    text: str
    advice: str = ""
    exit_code: int = 0

    @property
    def status(self) -> Literal["ok", "note", "bad"]:
        """Whether all is well."""
        return "bad" if self.exit_code else "note" if self.advice else "ok"

    def __str__(self) -> str:
        mark = "BAD" if self.status == "bad" else self.status
        name = f"{mark:<5}{self.name:<12}"
        return pairs({name: "\n".join(filter(None, (self.text, self.advice)))})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"status": self.status, **asdict(self)}


def examine(out: Path) -> Iterator[Finding]:
    """Check the libraries, the devices and the disk of a run folder, one after another."""
    yield from _versions()
    yield from _devices()
    yield _launcher()
    yield from (Finding(*supply) for supply in supplies(existing_part(out)))
    yield from _disk(out)


def _versions() -> Iterator[Finding]:
    oldest = importlib.metadata.metadata("lambdanets")["Requires-Python"].removeprefix(">=")
    yield _version("python", platform.python_version(), oldest)
    for name, (oldest, extra) in requirements().items():
        try:
            found = torch.__version__ if name == "torch" else importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            code = DependencyError.exit_code if extra in ("", "train") else 0
            yield Finding(name, "not installed", f"To have it: {install_command(name)}.", code)
        else:
            yield _version(name, found, oldest)
    try:
        yield Finding("triton", importlib.metadata.version("triton"))
    except importlib.metadata.PackageNotFoundError:
        advice = "To have it: torch for CUDA brings it along, for kernels on a GPU."
        yield Finding("triton", "not installed", advice)


def _version(name: str, found: str, oldest: str) -> Finding:
    numbers = [tuple(map(int, re.findall(r"\d+", version)[:2])) for version in (found, oldest)]
    if numbers[0] < numbers[1]:
        return Finding(name, found, f"{oldest} or newer is needed.", DependencyError.exit_code)
    return Finding(name, found)


def _devices() -> Iterator[Finding]:
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    load = f"{os.getloadavg()[0]:.1f}"
    text = f"{count(cores, 'core')} for this process, {count(threads, 'thread')}, load {load}"
    yield Finding("processor", text)
    if not torch.cuda.is_available():
        advice = "This torch is built without CUDA; on a machine with a GPU, install one with it."
        if torch.version.cuda is not None:
            advice = "torch is built for CUDA but finds no driver or device."
        yield Finding("GPU", "none", advice)
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        # In hardware from Ampere on.
        has_bfloat16 = torch.cuda.get_device_capability(number) >= (8, 0)
        advice = "" if has_bfloat16 else "Use float32 or float16."
        if total - free > total // 10:
            advice = "Another program uses its memory."
        text = (
            f"{torch.cuda.get_device_name(number)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free,"
            f" bfloat16 {'yes' if has_bfloat16 else 'no'}"
        )
        yield Finding(f"GPU {number}", text, advice)


def _launcher() -> Finding:
    try:
        world = read_world()
        text = f"process {world.rank} of {world.size}, at {read_address()}" if world.size > 1 else "none"
        return Finding("launcher", text)
    except ArgumentError as error:
        requirement, _, advice = str(error).removeprefix("environment: ").partition(". ")
        return Finding("launcher", requirement, advice, ArgumentError.exit_code)


def _disk(out: Path) -> Iterator[Finding]:
    folder = existing_part(out)
    free = shutil.disk_usage(folder).free
    advice = "lambdanets train RECIPE --dry-run shows what a run needs." if free < _LITTLE_FREE else ""
    yield Finding("disk", f"{free / 1e9:.1f} GB free at {folder}", advice)
    try:
        speed = _write_speed(folder)
    except OSError as error:
        text = f"failed at {folder}: {error.strerror or error}"
        yield Finding("writing", text, "Free some space, or use another --out.", StorageError.exit_code)
        return
    advice = "Checkpoints will take long; use a faster disk or a larger --ckpt.every-minutes."
    text = f"{speed / 1e6:.0f} MB/s, each file flushed to the disk"
    yield Finding("writing", text, advice if speed < _SLOW_BYTES_PER_S else "")
    kind = _file_system(folder)
    if kind.startswith(_SHARED):
        yield Finding("sharing", f"{kind}: shared with other machines")
    else:
        advice = "Training on several machines needs an --out that all of them see."
        yield Finding("sharing", f"{kind}: of this machine alone", advice)


def existing_part(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    return path if path.is_dir() else existing_part(path.parent)


def _write_speed(folder: Path) -> float:
    """Measure the bytes a second of a file that is written, flushed and renamed as a checkpoint is."""
    content = os.urandom(_WRITTEN)
    with tempfile.TemporaryDirectory(prefix=".tmp-doctor-", dir=folder) as beside:
        path = Path(beside, "written")
        started = time.perf_counter()
        write_flushed(path, content)
        path.rename(path.with_name("renamed"))
        flush(path.parent)
        seconds = time.perf_counter() - started
        if path.with_name("renamed").read_bytes() != content:
            raise OSError("the file reads back with other content")
    return _WRITTEN / seconds


def _file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the kind of file system of a folder, as the kernel names it; `unknown` if it does not say."""
    if not mounts.exists():
        return "unknown"
    folder = folder.resolve()
    kinds = {Path(line.split()[1]): line.split()[2] for line in mounts.read_text().splitlines()}
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "unknown")
