"""The differentiable operator: it keeps its inputs alone, and each direction takes its own implementation."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from lambdanets.functional._dispatch import Implementation, Problem, choose_again
from lambdanets.functional._layout import (
    cache_signature,
    from_rows,
    in_order_of,
    outside_autocast,
    product_precision,
    to_rows,
)
from lambdanets.functional.position import convolution, dense, lambda_first, mixed, reference, triton

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (
    reference.IMPLEMENTATION,
    convolution.IMPLEMENTATION,
    dense.IMPLEMENTATION,
    mixed.IMPLEMENTATION,
    lambda_first.IMPLEMENTATION,
    triton.IMPLEMENTATION,
)


Gradients = tuple[Tensor, Tensor, Tensor, Tensor]


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
_INPUTS: Final = "Tensor queries, Tensor values, Tensor table, Tensor? shared"
_LIBRARY.define(f"position_output({_INPUTS}, str impl, int workspace) -> Tensor")
_LIBRARY.define(
    f"position_gradients(Tensor gradient, {_INPUTS}, bool[] needed, str impl, int workspace)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
OUTPUT: Final = torch.ops.lambdanets.position_output.default
GRADIENTS: Final = torch.ops.lambdanets.position_gradients.default


@torch.library.impl(_LIBRARY, "position_output", "CompositeExplicitAutograd")
def compute(
    queries: Tensor, values: Tensor, table: Tensor, shared: Tensor | None, impl: str, workspace: int
) -> Tensor:
    """The output, "b h v *size", in the order of the queries."""
    problem = describe(queries, values, table, workspace=workspace)
    chosen = choose_again(IMPLEMENTATIONS, problem, impl)
    with outside_autocast(queries):
        if chosen.adds_shared:
            return in_order_of(chosen.run(queries, values, table, workspace, shared), queries)
        output = in_order_of(chosen.run(queries, values, table, workspace), queries)
        return output if shared is None else _add_product(output, queries, shared)


@torch.library.impl(_LIBRARY, "position_gradients", "CompositeExplicitAutograd")
def differentiate(
    gradient: Tensor,
    queries: Tensor,
    values: Tensor,
    table: Tensor,
    shared: Tensor | None,
    needed: Sequence[bool],
    impl: str,
    workspace: int,
) -> Gradients:
    """The gradients of the inputs in their order; an empty tensor for each not needed."""
    problem = describe(queries, values, table, backward=True, workspace=workspace)
    chosen = choose_again(IMPLEMENTATIONS, problem, impl)
    assert chosen.gradients is not None
    inputs = (queries, values, table)
    with outside_autocast(queries):
        arguments = (gradient, *inputs, needed[:3], workspace)
        found = chosen.gradients(*arguments, shared) if chosen.adds_shared else chosen.gradients(*arguments)
        first, second, third = (
            _in_place_of(like, one.to(like.dtype), need)
            for one, like, need in zip(found, inputs, needed[:3], strict=True)
        )
        if shared is None:
            return first, second, third, queries.new_empty(0)
        if needed[0] and not chosen.adds_shared:
            first = _add_product(first, gradient, shared.mT)
        of_shared = _of_shared(gradient, queries, shared) if needed[3] else shared.new_empty(0)
    return first, second, third, of_shared


def _in_place_of(like: Tensor, gradient: Tensor, need: bool) -> Tensor:
    return in_order_of(gradient, like) if need else like.new_empty(0)


def _add_product(
    output: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    shared: Float[Tensor, "b k v"],
) -> Float[Tensor, "b h v *size"]:
    """Apply the shared lambda to every query, and add."""
    dtype = product_precision(queries)
    rows = torch.baddbmm(to_rows(output).to(dtype), to_rows(queries).to(dtype), shared.to(dtype))
    return in_order_of(from_rows(rows.to(output.dtype), output), output)


def _of_shared(
    gradient: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    shared: Float[Tensor, "b k v"],
) -> Float[Tensor, "b k v"]:
    """dλ = Σₙₕ q dyᵀ."""
    dtype = product_precision(queries)
    return (to_rows(queries).to(dtype).mT @ to_rows(gradient).to(dtype)).to(shared.dtype)


@torch.library.register_fake("lambdanets::position_output", lib=_LIBRARY)
def _(
    queries: Tensor, values: Tensor, table: Tensor, shared: Tensor | None, impl: str, workspace: int
) -> Tensor:
    b, h, _, *size = queries.shape
    return in_order_of(queries.new_empty(b, h, values.shape[2], *size), queries)


@torch.library.register_fake("lambdanets::position_gradients", lib=_LIBRARY)
def _(
    gradient: Tensor,
    queries: Tensor,
    values: Tensor,
    table: Tensor,
    shared: Tensor | None,
    needed: Sequence[bool],
    impl: str,
    workspace: int,
) -> Gradients:
    first, second, third = (
        _in_place_of(one, one.new_empty(one.shape), need)
        for one, need in zip((queries, values, table), needed[:3], strict=True)
    )
    like = queries if shared is None else shared
    return first, second, third, like.new_empty(like.shape if shared is not None and needed[3] else (0,))


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.impl, ctx.workspace = inputs[4:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:4])
    found = _gradient_operator(gradient, *ctx.saved_tensors, needed, ctx.impl, ctx.workspace)
    return (*(one if need else None for one, need in zip(found, needed, strict=True)), None, None)


torch.library.register_autograd(
    "lambdanets::position_output", _backward, setup_context=_keep_inputs, lib=_LIBRARY
)


def _keep_gradient_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.needed = inputs[5]


def _double_backward(ctx: Any, *outer: Tensor | None) -> tuple[Tensor | None, ...]:
    """Through the reference, which autograd differentiates twice."""
    with torch.enable_grad():
        # The shared lambda, which may be missing, is the last.
        given = (one.detach().requires_grad_() for one in ctx.saved_tensors if one is not None)
        gradient, queries, values, table, *shared = given
        output = reference.run(queries, values, table)
        if shared:
            output = output + from_rows(to_rows(queries) @ shared[0].to(queries.dtype), queries)
        leaves = [queries, values, table, *shared]
        first = torch.autograd.grad(output, leaves, gradient, create_graph=True)
        # Without a shared lambda the last gradient stands for nothing.
        pairs = [
            (one, other)
            for one, other, need in zip(first, outer, ctx.needed, strict=False)
            if need and other is not None
        ]
        second = torch.autograd.grad(
            [one for one, _ in pairs], [gradient, *leaves], [other for _, other in pairs], allow_unused=True
        )
    return (*second, *(None for _ in range(8 - len(second))))


torch.library.register_autograd(
    "lambdanets::position_gradients", _double_backward, setup_context=_keep_gradient_inputs, lib=_LIBRARY
)


def _vmap_output(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
    """Fold the mapped axis into the batch; a table of its own for each item needs a call for each."""
    count = info.batch_size
    tensors = _in_front(count, in_dims[:4], arguments[:4])
    if in_dims[2] is not None:
        run: Any = position_operator
        return torch.stack([run(*items, *arguments[4:]) for items in _each(count, tensors)]), 0
    queries, values, _, shared = (None if one is None else one.flatten(0, 1) for one in tensors)
    assert queries is not None
    assert values is not None
    output = position_operator(queries, values, arguments[2], shared, *arguments[4:])
    return output.unflatten(0, (count, -1)), 0


def _vmap_gradients(
    info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[Gradients, tuple[int, int, int, int]]:
    tensors = _in_front(info.batch_size, in_dims[:5], arguments[:5])
    found = [_gradient_operator(*items, *arguments[5:]) for items in _each(info.batch_size, tensors)]
    first, second, third, fourth = (torch.stack(one) for one in zip(*found, strict=True))
    return (first, second, third, fourth), (0, 0, 0, 0)


def _in_front(
    count: int, in_dims: Sequence[int | None], tensors: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The mapped axis first, in every tensor."""
    return [
        None
        if tensor is None
        else (tensor.expand(count, *tensor.shape) if axis is None else tensor.movedim(axis, 0))
        for axis, tensor in zip(in_dims, tensors, strict=True)
    ]


def _each(count: int, tensors: Sequence[Tensor | None]) -> list[tuple[Tensor | None, ...]]:
    """The tensors of each mapped item."""
    return [tuple(None if one is None else one[item] for one in tensors) for item in range(count)]


@cache_signature
class _Output(torch.autograd.Function):
    """The operator for eager mode: functorch differentiates autograd functions and not operators."""

    @staticmethod
    def forward(
        queries: Float[Tensor, "b h k *size"],
        values: Float[Tensor, "b u v *size"],
        table: Float[Tensor, "u k *scope"],
        shared: Float[Tensor, "b k v"] | None,
        impl: str,
        workspace: int,
    ) -> Float[Tensor, "b h v *size"]:
        output: Tensor = OUTPUT(queries, values, table, shared, impl, workspace)
        return output

    setup_context = staticmethod(_keep_inputs)
    backward = staticmethod(_backward)
    vmap = staticmethod(_vmap_output)


@cache_signature
class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(
        gradient: Float[Tensor, "b h v *size"],
        queries: Float[Tensor, "b h k *size"],
        values: Float[Tensor, "b u v *size"],
        table: Float[Tensor, "u k *scope"],
        shared: Float[Tensor, "b k v"] | None,
        needed: Sequence[bool],
        impl: str,
        workspace: int,
    ) -> Gradients:
        found: Gradients = GRADIENTS(gradient, queries, values, table, shared, needed, impl, workspace)
        return found

    setup_context = staticmethod(_keep_gradient_inputs)
    backward = staticmethod(_double_backward)
    vmap = staticmethod(_vmap_gradients)


def position_operator(
    queries: Tensor, values: Tensor, table: Tensor, shared: Tensor | None, impl: str, workspace: int
) -> Tensor:
    """The output, differentiable; torch.compile and torch.export see the registered operator alone."""
    run: Any = OUTPUT if torch.compiler.is_compiling() else _Output.apply
    return run(queries, values, table, shared, impl, workspace)


def _gradient_operator(*arguments: Any) -> Gradients:
    run: Any = GRADIENTS if torch.compiler.is_compiling() else _Gradients.apply
    return run(*arguments)


def pairs_in_bounds(size: Sequence[int], scope: Sequence[int]) -> int:
    """(query, context) pairs whose offset is in scope and whose context element is on the map."""
    reach = [min(side // 2, length - 1) for side, length in zip(scope, size, strict=True)]
    return math.prod(length * (2 * p + 1) - p * (p + 1) for length, p in zip(size, reach, strict=True))


def _flops(queries: Sequence[int], values: Sequence[int], table: Sequence[int], shared: Any) -> int:
    """Twice the multiply-adds that are in bounds: lambdas, and lambdas applied, the shared one too."""
    b, h, k, *size = queries
    u, v = values[1:3]
    applied = h if shared is None else 2 * h
    return 2 * b * k * v * (pairs_in_bounds(size, table[2:]) * u + math.prod(size) * applied)


@register_flop_formula(torch.ops.lambdanets.position_output)
def _(queries: Any, values: Any, table: Any, shared: Any, *_: Any, **__: Any) -> int:
    return _flops(queries, values, table, shared)


@register_flop_formula(torch.ops.lambdanets.position_gradients)
def _(gradient: Any, queries: Any, values: Any, table: Any, shared: Any, *_: Any, **__: Any) -> int:
    """Twice that: each of the products has two gradients."""
    return 2 * _flops(queries, values, table, shared)
