"""Windows offset by offset: a view of the padded map for each, and no copies of it."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional._layout import cache_signature, in_order_of, product_precision
from lambdanets.functional.attention.heads import compare
from lambdanets.functional.attention.windows import crop_window, neighbours, on_map, pad_window, views
from lambdanets.functional.relative_position import Size


def relate(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    prior: Float[Tensor, "h *scope"],
    appearance: str,
) -> Float[Tensor, "b h v *size"]:
    """The logits of each offset, then the values by them."""
    dtype = product_precision(queries)
    window = tuple(prior.shape[1:])
    asked = queries.to(dtype)
    logits = torch.stack([compare(asked, near, appearance) for near in neighbours(keys.to(dtype), window)], 2)
    geometry = prior.to(dtype).flatten(1)[(..., *(None,) * (queries.ndim - 3))]  # h r 1 …
    return aggregate(logits + geometry, values, window, True)


def aggregate(
    weights: Float[Tensor, "b h r *size"], values: Float[Tensor, "b h v *size"], window: Size, normalize: bool
) -> Float[Tensor, "b h v *size"]:
    """A multiplication and an addition of the whole map for each offset."""
    dtype = product_precision(values)
    shares = weights.to(dtype)
    if normalize:
        outside = ~on_map(tuple(values.shape[3:]), window, weights.device)
        shares = shares.masked_fill(outside, -torch.inf).softmax(2)
    summed: Any = _Sum.forward if torch.compiler.is_compiling() else _Sum.apply
    return in_order_of(summed(shares, values.to(dtype), window), values).to(values.dtype)


@cache_signature
class _Sum(torch.autograd.Function):
    """Autograd would write a whole map for the gradient of every view."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        shares: Float[Tensor, "b h r *size"], values: Float[Tensor, "b h v *size"], window: Size
    ) -> Float[Tensor, "b h v *size"]:
        output = torch.zeros_like(values)
        for share, near in zip(shares.unbind(2), neighbours(values, window), strict=True):
            output = output.addcmul(share.unsqueeze(2), near)
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.window = inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        shares, values = ctx.saved_tensors
        of_shares = of_values = None
        if ctx.needs_input_grad[0]:
            products = [(gradient * near).sum(2) for near in neighbours(values, ctx.window)]
            of_shares = torch.stack(products, dim=2)
        if ctx.needs_input_grad[1]:
            padded = pad_window(torch.zeros_like(gradient), ctx.window)
            for share, near in zip(shares.unbind(2), views(padded, ctx.window), strict=True):
                near.addcmul_(share.unsqueeze(2), gradient)
            of_values = crop_window(padded, ctx.window)
        return of_shares, of_values, None


def why_not(problem: Problem) -> str | None:
    """It runs everything."""
    return None


def cost(problem: Problem) -> float:
    """Weights and maps read and written once for each offset."""
    device = rates(problem.device)
    window = math.prod(problem.scope)
    numbers = problem.batch * problem.heads * problem.positions * window
    depth = problem.query_depth + 3 * problem.value_depth + 4
    return numbers * depth * problem.item_bytes / device.bytes + 3 * window * device.launch_seconds


RELATE = Implementation("shifts", why_not, cost, relate)
AGGREGATE = Implementation("shifts", why_not, cost, aggregate)
