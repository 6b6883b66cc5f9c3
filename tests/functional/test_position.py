"""yₙ = (Σₘ R[m - n] vₘᵀ)ᵀ qₙ: the position lambdas applied, by every implementation."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lambdanets.functional import apply_lambdas, lambda_layer, position_output
from lambdanets.functional._dispatch import Implementation
from lambdanets.functional.position import reference
from lambdanets.functional.relative_position import dense_embeddings
from support.compare import assert_close
from support.gradients import assert_all_close, outputs_and_gradients
from support.oracles import assert_specified, loop_embeddings, loop_lambda_layer
from support.parameters import LAYOUTS, POSITION_FORMS, each_layout, each_precision
from support.strategies import Case, map_cases

SMALL_CASES = [
    Case(size=(1,), scope=(1,), b=1, k=1, v=1, h=1),
    Case(size=(7,), scope=(5,), u=3),
    Case(size=(4,), scope=(11,), h=5),
    Case(size=(4, 3), scope=(3, 5), u=2),
    Case(size=(1, 5), scope=(3, 3)),
    Case(size=(2, 3, 2), scope=(3, 1, 5), u=2),
]
CASES = [
    *SMALL_CASES,
    Case(size=(37,), scope=(7,), k=16, v=8, h=4),
    Case(size=(7, 5), scope=(3, 3), k=3, v=5, u=2, h=4),
    Case(size=(5, 11), scope=(23, 23), k=16, v=2, h=4),
    Case(size=(13, 13), scope=(7, 7), b=1, k=5, v=3, h=3),
    Case(size=(3, 4, 5), scope=(3, 5, 11), b=3, u=3, h=1),
    Case(size=(4, 3), scope=(3, 3), b=0),
]
NAMES = ("queries", "values", "table")
PAPER_CASE = Case(size=(14, 13), scope=(23, 23), b=1, k=16, v=8, h=4)

each_implementation = pytest.mark.parametrize("impl", [one.name for one in POSITION_FORMS])


def dense_loops(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    size = tuple(queries.shape[3:])
    embeddings = loop_embeddings(table, size)
    return loop_lambda_layer(queries.flatten(3), None, values.flatten(3), embeddings).unflatten(-1, size)


@pytest.mark.parametrize("case", SMALL_CASES, ids=str)
def test_reference_is_the_sum_over_the_context(case: Case) -> None:
    tensors = case.draw(*NAMES)
    assert_specified(reference.run(**tensors), dense_loops(**tensors))


def test_an_offset_is_read_from_the_query_to_its_context() -> None:
    """R[+1] reads the element after the query: a cross-correlation, not a convolution."""
    table = torch.tensor([0.0, 0.0, 1.0]).view(1, 1, 3)
    values = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    for one in POSITION_FORMS:
        output = position_output(torch.ones(1, 1, 1, 3), values, table, impl=one.name)
        assert output.flatten().tolist() == pytest.approx([2.0, 3.0, 0.0], abs=1e-6)


@each_precision
@pytest.mark.parametrize("case", CASES, ids=str)
@each_implementation
def test_every_implementation_equals_the_reference(impl: str, case: Case, dtype: torch.dtype) -> None:
    tensors = case.draw(*NAMES, dtype=dtype)
    actual = outputs_and_gradients(position_output, tensors, impl=impl)
    exact = outputs_and_gradients(reference.run, {name: x.double() for name, x in tensors.items()})
    assert_all_close(actual, exact, dtype)


@pytest.mark.parametrize("layout", [torch.clone, *LAYOUTS.values()], ids=["contiguous", *LAYOUTS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@each_implementation
def test_a_shared_lambda_is_added_to_every_other(
    impl: str, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    """y = (λᵖ + λ)ᵀ q: as much as two outputs, added in float64."""
    tensors = Case(size=(4, 3), scope=(3, 5), b=2, k=4, v=3, u=2, h=3).draw(*NAMES, "shared", dtype=dtype)
    placed = {name: x if name == "shared" else layout(x) for name, x in tensors.items()}

    def separate(shared: Tensor, **inputs: Tensor) -> Tensor:
        own = reference.run(**inputs).flatten(3)
        return (own + apply_lambdas(inputs["queries"].flatten(3), shared)).unflatten(-1, (4, 3))

    exact = outputs_and_gradients(separate, {name: x.double() for name, x in tensors.items()})
    assert_all_close(outputs_and_gradients(position_output, placed, impl=impl), exact, dtype)


@each_layout
@each_implementation
def test_strides_change_nothing(impl: str, layout: Callable[[Tensor], Tensor]) -> None:
    tensors = Case(size=(5, 4), scope=(3, 5), k=4, v=3, u=2, h=3).draw(*NAMES)
    placed = {name: layout(x) for name, x in tensors.items()}
    assert not any(x.is_contiguous() for x in placed.values())
    actual = outputs_and_gradients(position_output, placed, impl=impl)
    assert_all_close(actual, outputs_and_gradients(reference.run, tensors))


@each_precision
@each_implementation
def test_finite_and_right_at_the_initialisation_of_the_paper(impl: str, dtype: torch.dtype) -> None:
    """Table, queries and values of unit variance at 23x23 and k = 16: outputs of about 92."""
    tensors = PAPER_CASE.draw(*NAMES, dtype=dtype)
    exact = outputs_and_gradients(reference.run, {name: x.double() for name, x in tensors.items()})
    assert exact["output"].std() > 40
    assert_all_close(outputs_and_gradients(position_output, tensors, impl=impl), exact, dtype)


@given(case=map_cases())
@each_implementation
def test_every_implementation_equals_the_reference_on_any_map(impl: str, case: Case) -> None:
    tensors = case.draw(*NAMES)
    actual = outputs_and_gradients(position_output, tensors, impl=impl)
    assert_all_close(actual, outputs_and_gradients(reference.run, tensors))


@given(case=map_cases())
def test_linear_in_the_values_and_in_the_queries(case: Case) -> None:
    (q, v, table), (other_q, other_v, _) = (case.draw(*NAMES, seed=seed).values() for seed in (0, 1))
    output = reference.run(q, v, table)
    in_values, in_queries = reference.run(q, other_v, table), reference.run(other_q, v, table)
    assert_close(reference.run(q, v + 3 * other_v, table), output + 3 * in_values, what="values")
    assert_close(reference.run(q + 3 * other_q, v, table), output + 3 * in_queries, what="queries")


@given(case=map_cases())
def test_heads_are_alone_and_parts_of_the_intra_depth_sum(case: Case) -> None:
    q, v, table = case.draw(*NAMES).values()
    output = reference.run(q, v, table)
    heads = [reference.run(q[:, i : i + 1], v, table) for i in range(case.h)]
    assert_close(output, torch.cat(heads, dim=1))
    parts = [reference.run(q, v[:, i : i + 1], table[i : i + 1]) for i in range(case.u)]
    assert_close(output, torch.stack(parts).sum(dim=0))


@given(case=map_cases())
@each_implementation
def test_shift_moves_the_output_in_the_interior(impl: str, case: Case) -> None:
    """Rolled by one, every position whose window stays on the map gives what it gave before."""
    size = tuple(side + length + 1 for side, length in zip(case.scope, case.size, strict=True))
    q, v, table = replace(case, size=size, b=1).draw(*NAMES).values()
    axes = tuple(range(3, q.ndim))
    moved_q, moved_v = (x.roll([1] * len(axes), axes) for x in (q, v))
    interior = tuple(
        slice(side // 2, length - side // 2 - 1) for side, length in zip(case.scope, size, strict=True)
    )
    shifted = tuple(slice(part.start + 1, part.stop + 1) for part in interior)
    before = position_output(q, v, table, impl=impl)[(..., *interior)]
    after = position_output(moved_q, moved_v, table, impl=impl)[(..., *shifted)]
    assert before.numel() > 0
    assert_close(after, before)


@given(case=map_cases())
@each_implementation
def test_scope_that_spans_the_map_is_global(impl: str, case: Case) -> None:
    """At 2·size - 1 every pair has its embedding; larger tables add offsets that join nothing."""
    spanning = tuple(2 * length - 1 for length in case.size)
    wide = tuple(max(side, span) for side, span in zip(case.scope, spanning, strict=True))
    q, v, table = replace(case, scope=wide).draw(*NAMES).values()
    embeddings = dense_embeddings(table, case.size)
    assert embeddings.flatten(1).any(dim=1).all()
    everywhere = lambda_layer(q.flatten(3), None, v.flatten(3), embeddings)
    assert_close(position_output(q, v, table, impl=impl).flatten(3), everywhere)


class Convolutions(TorchDispatchMode):
    """Counts the axes of every convolution that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.axes: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "convolution" in func.name():
            self.axes.add(args[0].ndim - 2)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", [Case(size=(5,), scope=(3,)), Case(size=(4, 3), scope=(3, 3), u=2)], ids=str)
@pytest.mark.parametrize("one", POSITION_FORMS, ids=lambda one: one.name)
def test_no_convolution_has_more_axes_than_the_map(one: Implementation, case: Case) -> None:
    """Values go into the batch: a 2-d map never needs a Conv3d, which is slow where it exists."""
    tensors = case.draw(*NAMES).values()
    with Convolutions() as seen:
        gradient = torch.ones_like(one.run(*tensors, 1 << 20))
        one.gradients(gradient, *tensors, [True, True, True], 1 << 20)
    assert seen.axes == ({len(case.size)} if one.name == "convolution" else set())


def test_implementations_see_no_offset_that_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is cropped to 2·size - 1 before the choice, so a large scope costs nothing."""
    seen = []

    def record(queries: Tensor, values: Tensor, table: Tensor, workspace: int) -> Tensor:
        seen.append(tuple(table.shape[2:]))
        return queries.new_zeros(queries.shape[0], queries.shape[1], *values.shape[2:])

    module = "lambdanets.functional.position.IMPLEMENTATIONS"
    monkeypatch.setattr(module, (replace(POSITION_FORMS[0], run=record),))
    position_output(*Case(size=(2, 7), scope=(23, 5)).draw(*NAMES).values())
    assert seen == [(3, 5)]
