"""The origin of a number: the machine, the versions, the commit."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import torch

_PACKAGES: Final = ("torch", "timm")

# Those that decide the numbers of a training, an evaluation or a prediction, to the last digit.
_LIBRARIES: Final = ("lambdanets", "torch", "torchvision", "numpy", "pillow", "timm")


def machine_name(device: str = "cpu") -> str:
    """The accelerator, or the processor and its cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {len(os.sched_getaffinity(0))} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that computed."""
    return {"python": platform.python_version(), **_installed(_PACKAGES)}


@cache
def libraries() -> dict[str, str]:
    """Versions of the libraries that decide numbers, this one among them."""
    return _installed(_LIBRARIES)


def _installed(names: Iterable[str]) -> dict[str, str]:
    installed = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def processor(device: str = "cpu") -> str:
    """What decides which kernels compute, and so the last digits: `cpu AVX512`, `cuda 9.0 NVIDIA H200`."""
    if device == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        return f"cuda {major}.{minor} {torch.cuda.get_device_name()}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


@cache
def commit() -> str:
    """The commit of this library's repository, with `-dirty` when files differ; `unknown` elsewhere."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def now() -> str:
    """Date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
