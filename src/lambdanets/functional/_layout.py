"""Order in memory, precision and workspace: what makes the mathematics fast and is no part of it.

Kernels read and write the channels of a position beside each other ("channels last"), whatever the order of
the tensors they are given; results come back in the order of the inputs. A layer's projections are one
matrix product that writes this order.
"""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

# Positions below which one product of a copy is faster than one product for each image.
_SMALL_MAP = 256

Function = TypeVar("Function", bound=type[torch.autograd.Function])


def cache_signature(function: Function) -> Function:
    """Store the signature of an autograd function's `forward`, which torch would inspect at each call."""
    forward = function.forward
    vars(forward)["__signature__"] = inspect.signature(forward)
    return function


def chunks(count: int, bytes_each: int, workspace: int) -> Iterator[slice]:
    """Slices that cover `count` items in order, each of as many as fit the workspace, at least one."""
    size = max(1, workspace // max(1, bytes_each))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def outside_autocast(tensor: Tensor) -> AbstractContextManager[None]:
    """A context in which autocast casts nothing on the tensor's device.

    Operators compute in the precision of their inputs, or in float32 where they say so. Under autocast
    the inputs are what projections and norms made of them, and that is where autocast acts.
    """
    device = tensor.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def product_precision(values: Tensor) -> torch.dtype:
    """The dtype matrix products of these values are computed in."""
    # Matrix products of a CPU in 16 bits are slow or inexact; a GPU's accumulate in 32.
    return torch.promote_types(values.dtype, torch.float32) if values.is_cpu else values.dtype


def channels_are_last(tensor: Tensor, axis: int = 2) -> bool:
    """Whether the channels of a position, along `axis`, lie beside each other and the positions do not."""
    return tensor.stride(axis) == 1 and tensor.stride(-1) != 1


def channels_last(tensor: Float[Tensor, "b c d *size"]) -> Float[Tensor, "b c d *size"]:
    """A copy with channels last, unless they are last already."""
    return tensor.movedim((1, 2), (-2, -1)).contiguous().movedim((-2, -1), (1, 2))


def in_order_of(
    tensor: Float[Tensor, "b c d *size"], like: Float[Tensor, "b _ _ *size"]
) -> Float[Tensor, "b c d *size"]:
    """The same numbers with channels last where `like` has them last, contiguous otherwise."""
    return channels_last(tensor) if channels_are_last(like) else tensor.contiguous()


def empty_in_order_of(
    like: Float[Tensor, "b _ _ *size"], c: int, d: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "b c d *size"]:
    """An uninitialised result, in the order that `in_order_of` would give it."""
    b, _, _, *size = like.shape
    if channels_are_last(like):
        return like.new_empty(b, *size, c, d, dtype=dtype).movedim((-2, -1), (1, 2))
    return like.new_empty(b, c, d, *size, dtype=dtype)


def to_rows(tensor: Float[Tensor, "b h k *size"]) -> Float[Tensor, "b n_h k"]:
    """One row for each head of each position; a view, where channels are last in memory."""
    return tensor.movedim((1, 2), (-2, -1)).flatten(1, -2)


def from_rows(
    rows: Float[Tensor, "b n_h v"], like: Float[Tensor, "b h _ *size"]
) -> Float[Tensor, "b h v *size"]:
    """Undo `to_rows`."""
    return rows.unflatten(1, (*like.shape[3:], like.shape[1])).movedim((-2, -1), (1, 2))


def is_traced() -> bool:
    """Whether `torch.jit.trace` records what is called, as graph viewers and counters make it do."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def project_rows(
    inputs: Float[Tensor, "b d *size"],
    weight: Float[Tensor, "out d"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "b n out"]:
    """A 1×1 convolution whose output has channels last, whatever the inputs' order."""
    if torch.compiler.is_compiling():  # which chooses orders itself
        return torch.nn.functional.linear(inputs.flatten(2).transpose(1, 2), weight, bias)
    if not torch.is_grad_enabled():
        return _Projection.forward(inputs, weight, bias)
    apply: Any = _Projection.apply
    rows: Tensor = apply(inputs, weight, bias)
    return rows


@cache_signature
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
        rows = _input_rows(inputs)
        if rows.is_contiguous():
            return torch.nn.functional.linear(rows, weight, bias)
        # A batched product reads the transposed rows where they are.
        weights = weight.T.expand(len(rows), -1, -1)
        return torch.bmm(rows, weights) if bias is None else torch.baddbmm(bias, rows, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        grad_inputs, grad_weight, grad_bias = None, None, None
        grad = grad_out.to(product_precision(grad_out))
        if ctx.needs_input_grad[0]:
            precise_weight = weight.to(grad.dtype)
            if channels_are_last(inputs, axis=1):
                by_channel = (grad @ precise_weight).transpose(1, 2)
            else:
                by_channel = torch.bmm(precise_weight.T.expand(len(grad), -1, -1), grad.mT)
            grad_inputs = by_channel.unflatten(2, inputs.shape[2:]).to(inputs.dtype)
        if ctx.needs_input_grad[1]:
            rows = _input_rows(inputs).to(grad.dtype)
            if rows.is_contiguous():
                grad_weight = grad.flatten(0, 1).T @ rows.flatten(0, 1)
            else:
                grad_weight = torch.bmm(rows.mT, grad).sum(0).T
            grad_weight = grad_weight.to(weight.dtype)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 1)).to(weight.dtype)
        return grad_inputs, grad_weight, grad_bias


def _input_rows(inputs: Float[Tensor, "b d *size"]) -> Float[Tensor, "b n d"]:
    """A copy for small maps and a view for others."""
    rows = inputs.flatten(2).transpose(1, 2)
    return rows.contiguous() if rows.shape[1] <= _SMALL_MAP else rows


def to_channels_first(tensor: Float[Tensor, "b d *size"]) -> Float[Tensor, "b d *size"]:
    """A copy with channels first, whose gradient is copied to channels last."""
    if torch.compiler.is_compiling() or is_traced() or not torch.is_grad_enabled():
        return _ToChannelsFirst.forward(tensor)
    apply: Any = _ToChannelsFirst.apply
    copied: Tensor = apply(tensor)
    return copied


@cache_signature
class _ToChannelsFirst(torch.autograd.Function):
    """The gradient is copied back once, instead of once by everything that reads it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(tensor: Float[Tensor, "b d *size"]) -> Float[Tensor, "b d *size"]:
        # With the positions as one axis torch transposes by blocks.
        return tensor.flatten(2).contiguous().unflatten(2, tensor.shape[2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> Tensor:
        rows = grad_out.flatten(2).transpose(1, 2).contiguous()
        return rows.transpose(1, 2).unflatten(2, grad_out.shape[2:])
