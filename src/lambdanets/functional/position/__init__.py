"""`position_output`: the position lambdas applied to the queries, without being kept."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_tensor, check_positive
from lambdanets.functional._dispatch import Implementation, Problem, choose_again, default_workspace, describe
from lambdanets.functional._layout import (
    from_rows,
    in_order_of,
    outside_autocast,
    product_precision,
    to_rows,
)
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
            `"auto"`. Rounding errors are relative to the largest value within a position's window, and a
            value that is not finite stays in the windows that hold it: where the numbers of a call would
            not let an implementation keep that, another one runs, whatever the name. (On a GPU `"dense"`
            and `"triton"` may carry a value that is not finite to its neighbours.)
        workspace: Bytes of scratch memory to work in, whatever the batch and the map; 16 MiB on a CPU and
            64 MiB on a GPU by default. One image, or one row of it, is the least that is worked on.

    Raises:
        ArgumentError: Shapes that do not fit, an even scope, an unknown implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type; `shared` may be of its own.
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
    size = sizes["*size"][0]
    check_scope(who, sizes["*scope"][0], len(size))
    if len(size) > 3:
        raise ArgumentError(f"{who}: queries must have 1, 2 or 3 axes of positions, got {len(size)}.")
    if 0 in size:
        raise ArgumentError(f"{who}: queries must have a position along every axis, got {size}.")
    if workspace is None:
        workspace = default_workspace(queries.device.type)
    else:
        check_positive(who, most=2**63 - 1, workspace=workspace)
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
        cropped = _in_reach(table, queries)
        problem = describe(queries, values, cropped, workspace=workspace)
        chosen = choose_again(IMPLEMENTATIONS, problem, impl)
        with outside_autocast(queries):
            suited = _suited(chosen, problem, (values,))
            if suited is not None:
                output = self.fake(queries, values)
                for images, name in ((suited, chosen.name), (~suited, _another(chosen, problem))):
                    apart = None if shared is None else shared[images]
                    output[images] = self.run(queries[images], values[images], table, apart, name, workspace)
                return output
            if chosen.adds_shared:
                return in_order_of(chosen.run(queries, values, cropped, workspace, shared), queries)
            output = in_order_of(chosen.run(queries, values, cropped, workspace), queries)
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
        cropped = _in_reach(table, queries)
        problem = describe(queries, values, cropped, backward=True, workspace=workspace)
        chosen = choose_again(IMPLEMENTATIONS, problem, impl)
        assert chosen.gradients is not None
        inputs, needs = (queries, values, cropped), needs_grad[:3]
        extra = (shared,) if chosen.adds_shared else ()
        with outside_autocast(queries):
            suited = _suited(chosen, problem, (values,), (queries, grad_out))
            if suited is not None:
                apart = ((suited, chosen.name), (~suited, _another(chosen, problem)))
                return self._gradients_apart(
                    apart, grad_out, queries, values, table, shared, needs_grad, workspace
                )
            grads = chosen.gradients(grad_out, *inputs, needs, workspace, *extra)
            grad_queries, grad_values, grad_table = (
                in_order_of(grad.to(like.dtype), like) if need else like.new_empty(0)
                for grad, like, need in zip(grads, inputs, needs, strict=True)
            )
            if needs[2] and cropped.shape != table.shape:
                inside, grad_table = grad_table, in_order_of(table.new_zeros(table.shape), table)
                _in_reach(grad_table, queries).copy_(inside)
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

    def _gradients_apart(
        self,
        parts: Sequence[tuple[Tensor, str]],
        grad_out: Tensor,
        queries: Tensor,
        values: Tensor,
        table: Tensor,
        shared: Tensor | None,
        needs_grad: Sequence[bool],
        workspace: int,
    ) -> tuple[Tensor, ...]:
        """The images of each part by its implementation; the table's gradient is the sum of theirs."""
        grads = self.fake_gradients(grad_out, queries, values, table, shared, needs_grad)
        grads[2].zero_()
        for images, name in parts:
            grad, q, v = (one[images] for one in (grad_out, queries, values))
            few_shared = None if shared is None else shared[images]
            found = self.gradients(grad, q, v, table, few_shared, needs_grad, name, workspace)
            grads[2].add_(found[2])
            for i in (0, 1, 3):
                if grads[i].numel():
                    grads[i][images] = found[i]
        return grads

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


def _in_reach(table: Float[Tensor, "u k *scope"], queries: Tensor) -> Float[Tensor, "u k *cropped"]:
    """The part of a table that joins two elements of the queries' map: all of it, or a view."""
    size = queries.shape[3:]
    if all(side < 2 * length for side, length in zip(table.shape[2:], size, strict=True)):
        return table
    return crop_table(table, tuple(2 * length - 1 for length in size))


def _suited(
    chosen: Implementation, problem: Problem, *products: tuple[Tensor, ...]
) -> Bool[Tensor, " b"] | None:
    """For which images an implementation is exact; None where it is for all.

    Images are independent: each gets what its own numbers suit.
    """
    suited = None if chosen.suits is None else chosen.suits(problem, products)
    return None if suited is None or suited.all() else suited


def _another(chosen: Implementation, problem: Problem) -> str:
    """What computes the images that an implementation does not suit."""
    is_demanding = chosen is fourier.IMPLEMENTATION
    others = (one for one in IMPLEMENTATIONS if one.suits is None or (is_demanding and one is not chosen))
    return choose_again(tuple(others), problem).name


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
