"""One comparison and one tolerance table for the project."""

import torch
from torch import Tensor

# Relative root-mean-square error against float64.
TOLERANCE: dict[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 2e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Root-mean-square difference over the root-mean-square of what is expected, in float64."""
    actual, expected = actual.detach().double(), expected.detach().double()
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if expected.numel() == 0:
        return 0.0
    scale = expected.square().mean().sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    return float((actual - expected).square().mean().sqrt() / scale)


def assert_close(
    actual: Tensor, expected: Tensor, dtype: torch.dtype = torch.float64, what: str = ""
) -> None:
    """Fail when `actual` is further from a float64 `expected` than its precision explains."""
    error = relative_error(actual, expected)
    # A NaN compares false with everything, so the condition is written to fail on it.
    assert error <= TOLERANCE[dtype], (
        f"{what or 'result'}: relative error {error:.2e} > {TOLERANCE[dtype]:.0e}"
    )


def assert_equal(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Fail unless every bit agrees."""
    assert torch.equal(actual, expected), f"{what or 'result'}: not bit-identical"
