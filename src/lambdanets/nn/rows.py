"""Maps as rows of channels, one for each position: the order in memory that lambdas read and write."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._autograd import called_often
from lambdanets.functional._precision import product_precision

# Positions below which one product of a copy is faster than one product for each image.
SMALL_MAP = 256


def channels_are_last(inputs: Float[Tensor, "b d *size"]) -> bool:
    """Whether the channels of a position lie beside each other in memory.

    Paper: none (ours).
    """
    return inputs.stride(1) == 1 and not inputs.is_contiguous()


def project_rows(
    inputs: Float[Tensor, "b d *size"],
    weight: Float[Tensor, "out d"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "b n out"]:
    """A convolution with a window of one element, its channels last whatever the inputs' order.

    Paper: §3.3.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _Projection.forward(inputs, weight, bias)
    project: Any = _Projection.apply
    rows: Tensor = project(inputs, weight, bias)
    return rows


@called_often
class _Projection(torch.autograd.Function):
    """Its gradient comes back in the order of the inputs, as everything before expects it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        inputs: Float[Tensor, "b d *size"],
        weight: Float[Tensor, "out d"],
        bias: Float[Tensor, " out"] | None,
    ) -> Float[Tensor, "b n out"]:
        precise = product_precision(inputs)
        if precise != inputs.dtype:
            shift = None if bias is None else bias.to(precise)
            return _Projection.forward(inputs.to(precise), weight.to(precise), shift).to(inputs.dtype)
        rows = _rows(inputs)
        if rows.is_contiguous():
            return torch.nn.functional.linear(rows, weight, bias)
        # A batched product reads the transposed rows where they are.
        weights = weight.T.expand(len(rows), -1, -1)
        return torch.bmm(rows, weights) if bias is None else torch.baddbmm(bias, rows, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = None, None, None
        outer = gradient.to(product_precision(gradient))
        if ctx.needs_input_grad[0]:
            of_inputs = _of_inputs(outer, weight.to(outer.dtype), inputs).to(inputs.dtype)
        if ctx.needs_input_grad[1]:
            rows = _rows(inputs).to(outer.dtype)
            if rows.is_contiguous():
                of_weight = outer.flatten(0, 1).T @ rows.flatten(0, 1)
            else:
                of_weight = torch.bmm(rows.mT, outer).sum(0).T
            of_weight = of_weight.to(weight.dtype)
        if ctx.needs_input_grad[2]:
            of_bias = outer.sum((0, 1)).to(weight.dtype)
        return of_inputs, of_weight, of_bias


def _rows(inputs: Float[Tensor, "b d *size"]) -> Float[Tensor, "b n d"]:
    """A copy for small maps and a view for others."""
    rows = inputs.flatten(2).transpose(1, 2)
    return rows.contiguous() if rows.shape[1] <= SMALL_MAP else rows


def _of_inputs(
    gradient: Float[Tensor, "b n out"], weight: Float[Tensor, "out d"], inputs: Float[Tensor, "b d *size"]
) -> Float[Tensor, "b d *size"]:
    if channels_are_last(inputs):
        by_channel = (gradient @ weight).transpose(1, 2)
    else:
        by_channel = torch.bmm(weight.T.expand(len(gradient), -1, -1), gradient.mT)
    return by_channel.unflatten(2, inputs.shape[2:])


@called_often
class _ToMap(torch.autograd.Function):
    """A copy whose gradient is copied back at once, in the place of once for everything that reads it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Float[Tensor, "b d *size"]) -> Float[Tensor, "b d *size"]:
        # With the positions as one axis torch transposes by blocks.
        return inputs.flatten(2).contiguous().unflatten(2, inputs.shape[2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rows = gradient.flatten(2).transpose(1, 2).contiguous()
        return rows.transpose(1, 2).unflatten(2, gradient.shape[2:])


def to_channels_first(inputs: Float[Tensor, "b d *size"]) -> Float[Tensor, "b d *size"]:
    """A copy with channels first; its gradient is a copy with channels last.

    Paper: none (ours).
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _ToMap.forward(inputs)
    copy: Any = _ToMap.apply
    copied: Tensor = copy(inputs)
    return copied
