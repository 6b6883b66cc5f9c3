"""Windows offset by offset: a view of the padded map for each, and no copies of it."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional._layout import cache_signature, in_order_of, is_traced, product_precision
from lambdanets.functional.attention.logits import compare
from lambdanets.functional.relative_position import Size


def relate(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    prior: Float[Tensor, " h *scope"],
    appearance: str,
) -> Float[Tensor, "b h v *size"]:
    """The logits of each offset, then the values by them."""
    dtype = product_precision(queries)
    window = tuple(prior.shape[1:])
    q = queries.to(dtype)
    logits = torch.stack([compare(q, k, appearance) for k in neighbours(keys.to(dtype), window)], dim=2)
    geometry = prior.to(dtype).flatten(1)[(..., *(None,) * (queries.ndim - 3))]  # h r 1 …
    return aggregate(logits + geometry, values, window, True)


def aggregate(
    weights: Float[Tensor, "b h r *size"], values: Float[Tensor, "b h v *size"], window: Size, normalize: bool
) -> Float[Tensor, "b h v *size"]:
    """A multiplication and an addition of the whole map for each offset."""
    dtype = product_precision(values)
    weights = weights.to(dtype)
    if normalize:
        everywhere = torch.ones(values.shape[3:], dtype=torch.bool, device=weights.device)
        on_map = torch.stack(list(neighbours(everywhere, window)))  # r *size
        weights = weights.masked_fill(~on_map, -torch.inf).softmax(2)
    is_recorded = torch.compiler.is_compiling() or is_traced()
    weighted_sum: Any = _WeightedSum.forward if is_recorded else _WeightedSum.apply
    return in_order_of(weighted_sum(weights, values.to(dtype), window), values).to(values.dtype)


@cache_signature
class _WeightedSum(torch.autograd.Function):
    """A weighted sum of views: autograd would write a whole map for the gradient of each."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        weights: Float[Tensor, "b h r *size"], values: Float[Tensor, "b h v *size"], window: Size
    ) -> Float[Tensor, "b h v *size"]:
        output = torch.zeros_like(values)
        for weight, neighbour in zip(weights.unbind(2), neighbours(values, window), strict=True):
            output = output.addcmul(weight.unsqueeze(2), neighbour)
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.window = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        weights, values = ctx.saved_tensors
        grad_weights = grad_values = None
        if ctx.needs_input_grad[0]:
            products = [(grad_out * neighbour).sum(2) for neighbour in neighbours(values, ctx.window)]
            grad_weights = torch.stack(products, dim=2)
        if ctx.needs_input_grad[1]:
            padded = _pad(torch.zeros_like(grad_out), ctx.window)
            for weight, neighbour in zip(weights.unbind(2), _views(padded, ctx.window), strict=True):
                neighbour.addcmul_(weight.unsqueeze(2), grad_out)
            grad_values = _view(padded, ctx.window, tuple(side // 2 for side in ctx.window))
        return grad_weights, grad_values, None


def neighbours(maps: Tensor, window: Size) -> Iterator[Tensor]:
    """The map as seen from every position, zero off the map: a view for each offset, row by row."""
    return _views(_pad(maps, window), window)


def _pad(maps: Tensor, window: Size) -> Tensor:
    return pad(maps, [side // 2 for side in reversed(window) for _ in range(2)])


def _views(padded: Tensor, window: Size) -> Iterator[Tensor]:
    for offset in product(*map(range, window)):
        yield _view(padded, window, offset)


def _view(padded: Tensor, window: Size, offset: Size) -> Tensor:
    """The part of a padded map that is as large as the map and begins at an offset."""
    lengths = padded.shape[padded.ndim - len(window) :]
    for axis, (at, length, side) in enumerate(zip(offset, lengths, window, strict=True)):
        padded = padded.narrow(padded.ndim - len(window) + axis, at, length - side + 1)
    return padded


def _cost(problem: Problem) -> float:
    """Weights and maps read and written once for each offset."""
    device = rates(problem.device)
    window = math.prod(problem.scope)
    numbers = problem.batch * problem.heads * problem.positions * window
    depth = problem.query_depth + 3 * problem.value_depth + 4
    return numbers * depth * problem.item_bytes / device.bytes + 3 * window * device.launch_seconds


RELATE = Implementation("shifts", runs_everything, _cost, relate)
AGGREGATE = Implementation("shifts", runs_everything, _cost, aggregate)
