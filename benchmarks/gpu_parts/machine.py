"""What the run was made on: device, driver, clocks, versions."""

import functools
import importlib
import platform
import shutil
import subprocess
from typing import Any

import torch

from gpu_parts.session import Bench, Item

ASKED = (
    "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu,"
    "utilization.gpu,memory.used"
)
PACKAGES = ("triton", "torchvision", "timm", "lambda_networks", "jaxtyping", "einops")


def items(bench: Bench) -> list[Item]:
    """The device, as nvidia-smi and torch see it, and the packages that import."""
    return [
        Item("device", functools.partial(device, bench)),
        Item("nvidia-smi", nvidia_smi),
        Item("packages", packages),
    ]


def device(bench: Bench) -> dict[str, Any]:
    """As torch sees it."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
    }
    if bench.is_cuda:
        properties = torch.cuda.get_device_properties(bench.device)
        found["gpu"] = properties.name
        found["capability"] = f"{properties.major}.{properties.minor}"
        found["multiprocessors"] = properties.multi_processor_count
        found["memory_bytes"] = properties.total_memory
        found["free_bytes"] = torch.cuda.mem_get_info()[0]
    return found


def nvidia_smi() -> dict[str, str]:
    """Read, never set."""
    if shutil.which("nvidia-smi") is None:
        return {"nvidia-smi": "not found"}
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return dict(zip(ASKED.split(","), found.stdout.strip().split(", "), strict=False))


def packages() -> dict[str, str]:
    """Versions of what imports, and why the others do not."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = getattr(importlib.import_module(name), "__version__", "imports")
        except Exception as error:
            found[name] = f"does not import: {type(error).__name__}: {str(error)[:80]}"
    return found
