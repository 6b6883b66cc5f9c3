"""`lambdanets doctor`: libraries, devices and disk of a machine, each finding with what to do about it."""

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch

from lambdanets.errors import DependencyError, StorageError
from lambdanets.files import flush, write_flushed

State = Literal["good", "note", "bad"]

# The extras that add a feature.
_EXTRAS: Final = ("train", "detect", "huggingface", "tensorboard", "export")

# Bytes of the write test, and what a disk should do in a second.
_WRITTEN: Final = 32_000_000
_SLOW_BYTES_PER_S: Final = 20_000_000
_LITTLE_FREE: Final = 10_000_000_000
_SHARED: Final = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "fuse.", "9p", "afs", "glusterfs")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was checked.

    Attributes:
        name: Its name.
        text: The result.
        state: `bad`: a run would fail.
        advice: What to do; may be empty.
        exit_code: The exit code for a bad one.
    """

    name: str
    text: str
    state: State = "good"
    advice: str = ""
    exit_code: int = 0


def examine(out: Path) -> Iterator[Finding]:
    """Check the libraries, the devices and the disk of a run folder, one after another."""
    yield from _versions()
    yield from _devices()
    yield from _disk(out)


def exit_code(findings: list[Finding]) -> int:
    """Return the exit code of the first bad finding; 0 without any."""
    return next((finding.exit_code for finding in findings if finding.state == "bad"), 0)


def render(finding: Finding) -> str:
    """Format a finding as one or two lines."""
    mark = {"good": "ok", "note": "note", "bad": "BAD"}[finding.state]
    line = f"{mark:<5}{finding.name:<14}{finding.text}"
    return f"{line}\n{'':<19}{finding.advice}" if finding.advice else line


def _requirements() -> dict[str, tuple[str, str]]:
    """Read what the package requires: library -> (oldest version, extra that brings it; "" for none)."""
    found: dict[str, tuple[str, str]] = {}
    lines = importlib.metadata.requires("lambdanets") or []
    for extra in ("", *_EXTRAS):
        for line in lines:
            condition = f"; extra == ['\"]{extra}['\"]" if extra else ""
            if match := re.fullmatch(rf"([\w.-]+)>=([\d.]+){condition}", line):
                found.setdefault(match[1], (match[2], extra))
    return found


def _versions() -> Iterator[Finding]:
    oldest = importlib.metadata.metadata("lambdanets")["Requires-Python"].removeprefix(">=")
    yield _version("python", platform.python_version(), oldest)
    for name, (oldest, extra) in _requirements().items():
        try:
            found = torch.__version__ if name == "torch" else importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield _missing(name, f"pip install 'lambdanets[{extra}]'", needed=extra in ("", "train"))
        else:
            yield _version(name, found, oldest)
    try:
        yield Finding(name="triton", text=importlib.metadata.version("triton"))
    except importlib.metadata.PackageNotFoundError:
        yield _missing("triton", "torch for CUDA brings it along, for kernels on a GPU", needed=False)


def _version(name: str, found: str, oldest: str) -> Finding:
    numbers = [tuple(map(int, re.findall(r"\d+", version)[:2])) for version in (found, oldest)]
    is_old = numbers[0] < numbers[1]
    return Finding(
        name=name,
        text=found,
        state="bad" if is_old else "good",
        advice=f"{oldest} or newer is needed." if is_old else "",
        exit_code=DependencyError.exit_code if is_old else 0,
    )


def _missing(name: str, remedy: str, needed: bool) -> Finding:
    return Finding(
        name=name,
        text="not installed",
        state="bad" if needed else "note",
        advice=f"To have it: {remedy}.",
        exit_code=DependencyError.exit_code if needed else 0,
    )


def _devices() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        name="processor",
        text=f"{cores} cores for this process, {torch.get_num_threads()} threads,"
        f" load {os.getloadavg()[0]:.1f}",
    )
    if not torch.cuda.is_available():
        has_build = torch.version.cuda is not None
        yield Finding(
            name="GPU",
            text="none",
            state="note",
            advice="torch is built for CUDA but finds no driver or device."
            if has_build
            else "This torch is built without CUDA; on a machine with a GPU, install one with it.",
        )
    for number in range(torch.cuda.device_count()):
        yield _gpu(number)


def _gpu(number: int) -> Finding:
    free, total = torch.cuda.mem_get_info(number)
    capability = torch.cuda.get_device_capability(number)
    # In hardware from Ampere on.
    has_bfloat16 = capability >= (8, 0)
    taken = total - free > total // 10
    return Finding(
        name=f"GPU {number}",
        text=f"{torch.cuda.get_device_name(number)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free,"
        f" bfloat16 {'yes' if has_bfloat16 else 'no'}",
        state="note" if taken or not has_bfloat16 else "good",
        advice="Another program uses its memory."
        if taken
        else ""
        if has_bfloat16
        else "Use float32 or float16.",
    )


def _disk(out: Path) -> Iterator[Finding]:
    folder = existing_part(out)
    free = shutil.disk_usage(folder).free
    yield Finding(
        name="disk",
        text=f"{free / 1e9:.1f} GB free at {folder}",
        state="note" if free < _LITTLE_FREE else "good",
        advice="lambdanets train RECIPE --dry-run shows what a run needs." if free < _LITTLE_FREE else "",
    )
    try:
        speed = _write_speed(folder)
    except OSError as error:
        yield Finding(
            name="writing",
            text=f"failed at {folder}: {error.strerror or error}",
            state="bad",
            advice="Free some space, or use another --out.",
            exit_code=StorageError.exit_code,
        )
        return
    slow = speed < _SLOW_BYTES_PER_S
    yield Finding(
        name="writing",
        text=f"{speed / 1e6:.0f} MB/s, each file flushed to the disk",
        state="note" if slow else "good",
        advice="Checkpoints will take long; use a faster disk or a larger --ckpt.every-minutes."
        if slow
        else "",
    )
    yield _sharing(folder)


def existing_part(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    path = path.absolute()
    return path if path.is_dir() else existing_part(path.parent)


def _write_speed(folder: Path, num_bytes: int = _WRITTEN) -> float:
    """Measure the bytes a second of a file that is written, flushed and renamed as a checkpoint is.

    Raises:
        OSError: It cannot be written, or does not read back as it was written.
    """
    content = os.urandom(num_bytes)
    with tempfile.TemporaryDirectory(prefix=".tmp-doctor-", dir=folder) as beside:
        path = Path(beside, "written")
        started = time.perf_counter()
        write_flushed(path, content)
        path.rename(path.with_name("renamed"))
        flush(path.parent)
        seconds = time.perf_counter() - started
        if path.with_name("renamed").read_bytes() != content:
            raise OSError("the file reads back with other content")
    return num_bytes / seconds


def _sharing(folder: Path) -> Finding:
    kind = _file_system(folder)
    shared = kind.startswith(_SHARED)
    return Finding(
        name="sharing",
        text=f"{kind}: {'shared with other machines' if shared else 'of this machine alone'}",
        state="good" if shared else "note",
        advice="" if shared else "Training on several machines needs an --out that all of them see.",
    )


def _file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the kind of file system of a folder, as the kernel names it; `unknown` if it does not say."""
    if not mounts.exists():
        return "unknown"
    folder = folder.resolve()
    kinds = {Path(line.split()[1]): line.split()[2] for line in mounts.read_text().splitlines()}
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "unknown")
