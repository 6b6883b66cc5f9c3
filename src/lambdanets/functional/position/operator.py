"""The differentiable operator: it keeps its inputs alone, and each direction takes its own implementation."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from lambdanets.functional._autograd import called_often
from lambdanets.functional._dispatch import Implementation, Problem, choose_again
from lambdanets.functional._order import in_order_of
from lambdanets.functional._precision import outside_autocast
from lambdanets.functional.position import convolution, dense, lambda_first, mixed, reference

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (
    reference.IMPLEMENTATION,
    convolution.IMPLEMENTATION,
    dense.IMPLEMENTATION,
    mixed.IMPLEMENTATION,
    lambda_first.IMPLEMENTATION,
)


def describe(
    queries: Tensor, values: Tensor, table: Tensor, *, backward: bool = False, workspace: int = 0
) -> Problem:
    """One direction of a call as plain data, for the choice and for `why_not`."""
    b, h, k, *size = queries.shape
    u, v = values.shape[1:3]
    return Problem(
        operation="position_output",
        batch=b,
        heads=h,
        query_depth=k,
        intra_depth=u,
        value_depth=v,
        size=tuple(size),
        scope=tuple(table.shape[2:]),
        dtype=values.dtype,
        device=values.device.type,
        backward=backward,
        workspace=workspace,
    )


_LIBRARY: Final = torch.library.Library("lambdanets", "FRAGMENT")
_LIBRARY.define(
    "position_output(Tensor queries, Tensor values, Tensor table, str impl, int workspace) -> Tensor"
)
_LIBRARY.define(
    "position_gradients(Tensor gradient, Tensor queries, Tensor values, Tensor table, bool[] needed, "
    "str impl, int workspace) -> (Tensor, Tensor, Tensor)"
)
OUTPUT: Final = torch.ops.lambdanets.position_output.default
GRADIENTS: Final = torch.ops.lambdanets.position_gradients.default


@torch.library.impl(_LIBRARY, "position_output", "CompositeExplicitAutograd")
def compute(queries: Tensor, values: Tensor, table: Tensor, impl: str, workspace: int) -> Tensor:
    """The output, "b h v *size", in the order of the queries."""
    problem = describe(queries, values, table, workspace=workspace)
    chosen = choose_again(IMPLEMENTATIONS, problem, impl)
    with outside_autocast(queries):
        return in_order_of(chosen.run(queries, values, table, workspace), queries)


@torch.library.impl(_LIBRARY, "position_gradients", "CompositeExplicitAutograd")
def differentiate(
    gradient: Tensor,
    queries: Tensor,
    values: Tensor,
    table: Tensor,
    needed: Sequence[bool],
    impl: str,
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, values and table in their order; an empty tensor for each not needed."""
    problem = describe(queries, values, table, backward=True, workspace=workspace)
    chosen = choose_again(IMPLEMENTATIONS, problem, impl)
    assert chosen.gradients is not None
    with outside_autocast(queries):
        found = chosen.gradients(gradient, queries, values, table, needed, workspace)
    inputs = (queries, values, table)
    first, second, third = (
        _in_place_of(like, one.to(like.dtype), need)
        for one, like, need in zip(found, inputs, needed, strict=True)
    )
    return first, second, third


def _in_place_of(like: Tensor, gradient: Tensor, need: bool) -> Tensor:
    return in_order_of(gradient, like) if need else like.new_empty(0)


@torch.library.register_fake("lambdanets::position_output", lib=_LIBRARY)
def _(queries: Tensor, values: Tensor, table: Tensor, impl: str, workspace: int) -> Tensor:
    b, h, _, *size = queries.shape
    return in_order_of(queries.new_empty(b, h, values.shape[2], *size), queries)


@torch.library.register_fake("lambdanets::position_gradients", lib=_LIBRARY)
def _(
    gradient: Tensor,
    queries: Tensor,
    values: Tensor,
    table: Tensor,
    needed: Sequence[bool],
    impl: str,
    workspace: int,
) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (
        _in_place_of(one, one.new_empty(one.shape), need)
        for one, need in zip((queries, values, table), needed, strict=True)
    )
    return first, second, third


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.impl, ctx.workspace = inputs[3:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:3])
    found = _gradient_operator(gradient, *ctx.saved_tensors, needed, ctx.impl, ctx.workspace)
    return (*(one if need else None for one, need in zip(found, needed, strict=True)), None, None)


torch.library.register_autograd(
    "lambdanets::position_output", _backward, setup_context=_keep_inputs, lib=_LIBRARY
)


def _keep_gradient_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.needed = inputs[4]


def _double_backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor | None, ...]:
    """Through the reference, which autograd differentiates twice."""
    with torch.enable_grad():
        gradient, *inputs = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        first = torch.autograd.grad(reference.run(*inputs), inputs, gradient, create_graph=True)
        pairs = [
            (one, other)
            for one, other, need in zip(first, outer, ctx.needed, strict=True)
            if need and other is not None
        ]
        second = torch.autograd.grad(
            [one for one, _ in pairs], (gradient, *inputs), [other for _, other in pairs], allow_unused=True
        )
    return (*second, None, None, None)


torch.library.register_autograd(
    "lambdanets::position_gradients", _double_backward, setup_context=_keep_gradient_inputs, lib=_LIBRARY
)


def _vmap_output(
    info: Any,
    in_dims: tuple[Any, ...],
    queries: Tensor,
    values: Tensor,
    table: Tensor,
    impl: str,
    workspace: int,
) -> tuple[Tensor, int]:
    """Fold the mapped axis into the batch; a table of its own for each item needs a call for each."""
    count = info.batch_size
    tensors = _in_front(count, in_dims[:3], (queries, values, table))
    if in_dims[2] is not None:
        found = [position_operator(q, v, r, impl, workspace) for q, v, r in zip(*tensors, strict=True)]
        return torch.stack(found), 0
    output = position_operator(tensors[0].flatten(0, 1), tensors[1].flatten(0, 1), table, impl, workspace)
    return output.unflatten(0, (count, -1)), 0


def _vmap_gradients(
    info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
    tensors = _in_front(info.batch_size, in_dims[:4], arguments[:4])
    found = [_gradient_operator(*items, *arguments[4:]) for items in zip(*tensors, strict=True)]
    first, second, third = (torch.stack(one) for one in zip(*found, strict=True))
    return (first, second, third), (0, 0, 0)


def _in_front(count: int, in_dims: Sequence[int | None], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mapped axis first, in every tensor."""
    return [
        tensor.expand(count, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
        for axis, tensor in zip(in_dims, tensors, strict=True)
    ]


@called_often
class _Output(torch.autograd.Function):
    """The operator for eager mode: functorch differentiates autograd functions and not operators."""

    @staticmethod
    def forward(
        queries: Float[Tensor, "b h k *size"],
        values: Float[Tensor, "b u v *size"],
        table: Float[Tensor, "u k *scope"],
        impl: str,
        workspace: int,
    ) -> Float[Tensor, "b h v *size"]:
        output: Tensor = OUTPUT(queries, values, table, impl, workspace)
        return output

    setup_context = staticmethod(_keep_inputs)
    backward = staticmethod(_backward)
    vmap = staticmethod(_vmap_output)


@called_often
class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(
        gradient: Float[Tensor, "b h v *size"],
        queries: Float[Tensor, "b h k *size"],
        values: Float[Tensor, "b u v *size"],
        table: Float[Tensor, "u k *scope"],
        needed: Sequence[bool],
        impl: str,
        workspace: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = GRADIENTS(
            gradient, queries, values, table, needed, impl, workspace
        )
        return found

    setup_context = staticmethod(_keep_gradient_inputs)
    backward = staticmethod(_double_backward)
    vmap = staticmethod(_vmap_gradients)


def position_operator(queries: Tensor, values: Tensor, table: Tensor, impl: str, workspace: int) -> Tensor:
    """The output, differentiable; torch.compile and torch.export see the registered operator alone."""
    run: Any = OUTPUT if torch.compiler.is_compiling() else _Output.apply
    return run(queries, values, table, impl, workspace)


def _gradient_operator(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    run: Any = GRADIENTS if torch.compiler.is_compiling() else _Gradients.apply
    return run(*arguments)


def pairs_in_bounds(size: Sequence[int], scope: Sequence[int]) -> int:
    """(query, context) pairs whose offset is in scope and whose context element is on the map."""
    reach = [min(side // 2, length - 1) for side, length in zip(scope, size, strict=True)]
    return math.prod(length * (2 * p + 1) - p * (p + 1) for length, p in zip(size, reach, strict=True))


@register_flop_formula(torch.ops.lambdanets.position_output)
def _(queries: Sequence[int], values: Sequence[int], table: Sequence[int], *_: Any, **__: Any) -> int:
    """Twice the multiply-adds that are in bounds: the lambdas, and the lambdas applied."""
    b, h, k, *size = queries
    u, v = values[1:3]
    return 2 * b * k * v * (pairs_in_bounds(size, table[2:]) * u + math.prod(size) * h)


@register_flop_formula(torch.ops.lambdanets.position_gradients)
def _(
    gradient: Sequence[int],
    queries: Sequence[int],
    values: Sequence[int],
    table: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    """Twice that: each of the two products has two gradients."""
    b, h, k, *size = queries
    u, v = values[1:3]
    return 4 * b * k * v * (pairs_in_bounds(size, table[2:]) * u + math.prod(size) * h)
