"""What all Triton kernels need of their surroundings: a device, a precision, powers of two."""

import os
from importlib.util import find_spec
from typing import Any, Final

import torch

from lambdanets.functional._dispatch import Problem, Rates, rates

DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Roughly those of Triton's interpreter, which is for tests and never the fastest.
_INTERPRETED: Final = Rates(product_flops=1e7, convolution_flops=1e7, bytes=1e8, launch_seconds=1.0)

# The fewest terms that Triton's compiler takes along the axis that a product sums.
SMALLEST_DEPTH: Final = 16


def is_interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device; it looks once, when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def cannot_launch(problem: Problem) -> str | None:
    """Why no kernel can run here, or None."""
    if not find_spec("triton"):  # importing it takes a while
        return "needs triton, which is not installed"
    if problem.device != "cuda" and not is_interpreted():
        return "needs a CUDA device, or TRITON_INTERPRET=1 in the environment"
    if problem.dtype not in DTYPES:
        return f"needs float16, bfloat16, float32 or float64, got {problem.dtype}"
    return None


def kernel_rates(device: str) -> Rates:
    """What kernels do in a second on a kind of device."""
    return rates(device) if device == "cuda" else _INTERPRETED


def input_precision() -> str:
    """How kernels multiply float32: as torch's matrix products do."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def acc_dtype(dtype: torch.dtype) -> Any:
    """Triton's name for what sums of such numbers are made in; Triton is imported."""
    from lambdanets.functional._triton_kernels import ACC_DTYPE

    return ACC_DTYPE[dtype]


def power_of_two(number: int, smallest: int = 1) -> int:
    """The smallest power of two that holds a number."""
    return max(smallest, 1 << (number - 1).bit_length())
