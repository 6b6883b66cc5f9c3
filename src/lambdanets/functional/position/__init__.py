"""`position_output`: the position lambdas applied to the queries, without being kept."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_tensor, check_positive
from lambdanets.functional._dispatch import Implementation, choose_again, default_workspace, describe
from lambdanets.functional._layout import from_rows, in_order_of, outside_autocast, product_precision, to_rows
from lambdanets.functional._recompute import RecomputeOperator
from lambdanets.functional.position import convolution, dense, fourier, reference, triton
from lambdanets.functional.relative_position import check_scope, crop_table

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (
    reference.IMPLEMENTATION,
    convolution.IMPLEMENTATION,
    dense.IMPLEMENTATION,
    fourier.IMPLEMENTATION,
    triton.IMPLEMENTATION,
)


def position_output(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    *,
    shared: Float[Tensor, "b k v"] | None = None,
    impl: str = "auto",
    workspace: int | None = None,
) -> Float[Tensor, "b h v *size"]:
    """Apply each position's own lambda, made from where the elements of its context stand.

    λᵖₙ = Σₘ R[m - n] vₘᵀ, summed over the intra-depth, and yₙ = λᵖₙᵀ qₙ. One, two or three axes.
    The index of an offset is offset + scope // 2 (a cross-correlation); elements outside the map
    count as zero. A scope larger than the map costs only the offsets that can occur. For backward the
    inputs are kept and nothing else.

    Paper: §3.1, §3.2 (lambda convolution), §B.4; Table 9 (position only).

    Args:
        queries: h queries for each position.
        values: u value vectors for each position.
        table: One embedding for each relative offset; every side odd.
        shared: A lambda of each image that all its positions share, such as the content's, to be added to
            each position's own: yₙ = (λᵖₙ + λ)ᵀ qₙ, with one pass over the output.
        impl: `"auto"`, `"reference"`, `"convolution"`, `"dense"`, `"fourier"` or `"triton"`.
            All are exact and differ by rounding. The output and the gradients may take different ones under
            `"auto"`.
        workspace: Bytes of scratch memory to work in, whatever the batch and the map; 16 MiB on a CPU and
            64 MiB on a GPU by default. One image, or one row of it, is the least that is worked on.

    Raises:
        ArgumentError: Shapes that do not fit, an even scope, an unknown implementation.
        NotImplementedError: The named implementation cannot run this call; the message says why.

    Example:
        >>> queries, values = torch.ones(2, 4, 16, 7, 5), torch.ones(2, 1, 8, 7, 5)
        >>> y = position_output(queries, values, torch.ones(1, 16, 3, 3))
        >>> y.shape, y[0, 0, 0, 3, 2].item()
        (torch.Size([2, 4, 8, 7, 5]), 144.0)
    """
    who = "position_output"
    sizes: Sizes = {}
    bind_tensor(who, "queries", queries, "b h k *size", sizes)
    bind_tensor(who, "values", values, "b u v *size", sizes)
    bind_tensor(who, "table", table, "u k *scope", sizes)
    if shared is not None:
        bind_tensor(who, "shared", shared, "b k v", sizes, own_type=True)
    size = queries.shape[3:]
    check_scope(who, tuple(table.shape[2:]), len(size))
    if len(size) > 3:
        raise ArgumentError(f"{who}: queries must have 1, 2 or 3 axes of positions, got {len(size)}.")
    if 0 in size:
        raise ArgumentError(f"{who}: queries must have a position along every axis, got {tuple(size)}.")
    if workspace is None:
        workspace = default_workspace(queries.device.type)
    else:
        check_positive(who, workspace=workspace)
    if any(side >= 2 * length for side, length in zip(table.shape[2:], size, strict=True)):
        table = crop_table(table, tuple(2 * length - 1 for length in size))
    output: Tensor = _position_operator(queries, values, table, shared, impl, workspace)
    return output


class _PositionOutput(RecomputeOperator):
    """It keeps its inputs alone, and each direction takes its own implementation."""

    name = "position_output"
    tensors = ("Tensor queries", "Tensor values", "Tensor table", "Tensor? shared")
    options = ("str impl", "int workspace")
    unbatched = (2,)

    def run(
        self,
        queries: Tensor,
        values: Tensor,
        table: Tensor,
        shared: Tensor | None,
        impl: str,
        workspace: int,
    ) -> Tensor:
        problem = describe(queries, values, table, workspace=workspace)
        chosen = choose_again(IMPLEMENTATIONS, problem, impl)
        with outside_autocast(queries):
            if chosen.adds_shared:
                return in_order_of(chosen.run(queries, values, table, workspace, shared), queries)
            output = in_order_of(chosen.run(queries, values, table, workspace), queries)
            return output if shared is None else _add_product(output, queries, shared)

    def gradients(
        self,
        grad_out: Tensor,
        queries: Tensor,
        values: Tensor,
        table: Tensor,
        shared: Tensor | None,
        needs_grad: Sequence[bool],
        impl: str,
        workspace: int,
    ) -> tuple[Tensor, ...]:
        problem = describe(queries, values, table, backward=True, workspace=workspace)
        chosen = choose_again(IMPLEMENTATIONS, problem, impl)
        assert chosen.gradients is not None
        inputs, needs = (queries, values, table), needs_grad[:3]
        extra = (shared,) if chosen.adds_shared else ()
        with outside_autocast(queries):
            grads = chosen.gradients(grad_out, *inputs, needs, workspace, *extra)
            grad_queries, grad_values, grad_table = (
                in_order_of(grad.to(like.dtype), like) if need else like.new_empty(0)
                for grad, like, need in zip(grads, inputs, needs, strict=True)
            )
            grad_shared = queries.new_empty(0)
            if shared is not None:
                if needs_grad[0] and not chosen.adds_shared:
                    grad_queries = _add_product(grad_queries, grad_out, shared.mT)
                grad_shared = shared.new_empty(0)
                if needs_grad[3]:  # dλ = Σₙₕ q dyᵀ
                    dtype = product_precision(queries)
                    product = to_rows(queries).to(dtype).mT @ to_rows(grad_out).to(dtype)
                    grad_shared = product.to(shared.dtype)
        return grad_queries, grad_values, grad_table, grad_shared

    def fake(self, queries: Tensor, values: Tensor, *_: Any) -> Tensor:
        b, h, _k, *size = queries.shape
        return in_order_of(queries.new_empty(b, h, values.shape[2], *size), queries)

    def fake_gradients(self, grad_out: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        *inputs, shared = arguments[:4]
        *needs, needs_shared = arguments[4]
        grads = (
            in_order_of(one.new_empty(one.shape), one) if need else one.new_empty(0)
            for one, need in zip(inputs, needs, strict=True)
        )
        like = inputs[0] if shared is None else shared
        return (*grads, like.new_empty(like.shape if shared is not None and needs_shared else (0,)))

    def reference(
        self, queries: Tensor, values: Tensor, table: Tensor, shared: Tensor | None, *_: Any
    ) -> Tensor:
        output = reference.run(queries, values, table)
        if shared is None:
            return output
        return output + from_rows(to_rows(queries) @ shared.to(queries.dtype), queries)

    def flops(self, queries: Any, values: Any, table: Any, shared: Any, *_: Any, **__: Any) -> int:
        """Twice the multiply-adds that are in bounds: lambdas, and lambdas applied, the shared one too."""
        b, h, k, *size = queries
        u, v = values[1:3]
        applied = h if shared is None else 2 * h
        return 2 * b * k * v * (pairs_in_bounds(size, table[2:]) * u + math.prod(size) * applied)


_position_operator: Final = _PositionOutput()


def _add_product(
    output: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    shared: Float[Tensor, "b k v"],
) -> Float[Tensor, "b h v *size"]:
    """Apply the shared lambda to every query, and add."""
    dtype = product_precision(queries)
    rows = torch.baddbmm(to_rows(output).to(dtype), to_rows(queries).to(dtype), shared.to(dtype))
    return in_order_of(from_rows(rows.to(output.dtype), output), output)


def pairs_in_bounds(size: Sequence[int], scope: Sequence[int]) -> int:
    """(query, context) pairs whose offset is in scope and whose context element is on the map."""
    reach = [min(side // 2, length - 1) for side, length in zip(scope, size, strict=True)]
    return math.prod(length * (2 * p + 1) - p * (p + 1) for length, p in zip(size, reach, strict=True))
