"""Outputs and all gradients of a call, and the comparison of two such calls."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from support.compare import assert_close


def outputs_and_gradients(
    function: Callable[..., Tensor], tensors: Mapping[str, Tensor], **options: object
) -> dict[str, Tensor]:
    """The output, and the gradient of each tensor for one fixed cotangent. Strides are kept."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    output = function(**leaves, **options)
    gradients = torch.autograd.grad(output, tuple(leaves.values()), cotangent(output))
    return {"output": output.detach()} | dict(zip(leaves, gradients, strict=True))


def cotangent(output: Tensor) -> Tensor:
    """Normal numbers rounded to quarters, which are exact in every dtype."""
    numbers = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return numbers.mul(4).round().div(4).to(output)


def assert_all_close(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype = torch.float64
) -> None:
    """Fail unless the output and every gradient are as near to float64 as the dtype allows."""
    assert actual.keys() == expected.keys()
    for name in expected:
        assert actual[name].dtype == dtype, f"{name}: {actual[name].dtype}, expected {dtype}"
        assert_close(actual[name], expected[name], dtype, name)
