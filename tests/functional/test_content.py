"""λᶜ = Σₘ k̄ₘ vₘᵀ and yₙ = λᶜᵀ qₙ: the content lambda and its application, by every implementation."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from torch import Tensor

from lambdanets.functional import apply_lambdas, content_output, content_summary, normalize_queries
from lambdanets.functional._layout import channels_last
from lambdanets.functional.content import reference
from support.compare import assert_close
from support.gradients import assert_all_close, outputs_and_gradients
from support.oracles import assert_specified, loop_lambda_layer
from support.parameters import CONTENT_FORMS, LAYOUTS, each_layout, each_normalization, each_precision
from support.strategies import Case, layer_cases

SMALL_CASES = [
    Case(size=(1,), b=1, k=1, v=1, h=1),
    Case(size=(5,), context=(3,), u=3),
    Case(size=(3, 2), context=(2, 4), u=2, h=4),
    Case(size=(2, 1, 3), context=(7,), k=4),
]
# Two context elements or more: the gradient of a single normalised key is zero, and no scale to err by.
CASES = [
    *SMALL_CASES[1:],
    Case(size=(37,), context=(2,), k=16, v=8, h=4),
    Case(size=(7, 5), context=(13, 11), k=5, v=3, u=2, h=5),
    Case(size=(4, 3), b=0),
]
NAMES = ("queries", "keys", "values")

each_implementation = pytest.mark.parametrize("impl", [one.name for one in CONTENT_FORMS])


def content_loops(queries: Tensor, keys: Tensor, values: Tensor, key_normalization: str) -> Tensor:
    output = loop_lambda_layer(
        queries.flatten(3), keys.flatten(3), values.flatten(3), None, key_normalization=key_normalization
    )
    return output.unflatten(-1, queries.shape[3:])


def exact_output(queries: Tensor, keys: Tensor, values: Tensor, key_normalization: str) -> Tensor:
    output = apply_lambdas(queries.flatten(3), reference.summary(keys, values, key_normalization))
    return output.unflatten(-1, queries.shape[3:])


@each_normalization
@pytest.mark.parametrize("case", SMALL_CASES, ids=str)
def test_reference_is_the_sum_over_the_context(case: Case, key_normalization: str) -> None:
    q, k, v = case.draw(*NAMES).values()
    actual = exact_output(normalize_queries(q, key_normalization), k, v, key_normalization)
    assert_specified(actual, content_loops(q, k, v, key_normalization))


@each_precision
@each_normalization
@pytest.mark.parametrize("case", CASES, ids=str)
@each_implementation
def test_every_implementation_equals_the_reference(
    impl: str, case: Case, key_normalization: str, dtype: torch.dtype
) -> None:
    tensors = case.draw(*NAMES, dtype=dtype)
    actual = outputs_and_gradients(content_output, tensors, impl=impl, key_normalization=key_normalization)
    exact = {name: x.double() for name, x in tensors.items()}
    expected = outputs_and_gradients(exact_output, exact, key_normalization=key_normalization)
    assert_all_close(actual, expected, dtype)


@each_precision
@each_normalization
@each_implementation
def test_a_summary_is_as_exact_as_float32_can_be(
    impl: str, key_normalization: str, dtype: torch.dtype
) -> None:
    """It is a long sum; whoever adds it to something else rounds it."""
    k, v = Case(size=(7, 5), context=(13, 11), k=5, v=3, u=2).draw("keys", "values", dtype=dtype).values()
    summary = content_summary(k, v, impl=impl, key_normalization=key_normalization)
    assert summary.dtype == torch.promote_types(dtype, torch.float32)
    expected = reference.summary(k.double(), v.double(), key_normalization)
    assert_close(summary, expected, summary.dtype)


@pytest.mark.parametrize("layout", ["contiguous", *LAYOUTS])
def test_an_output_lies_in_memory_as_the_queries_do(layout: str) -> None:
    q, k, v = Case(size=(5, 4), context=(3,), k=4, v=3, h=3).draw(*NAMES).values()
    output = content_output(LAYOUTS.get(layout, torch.clone)(q), k, v)
    if layout == "channels_last":
        output = output.movedim((1, 2), (-2, -1))
    assert output.is_contiguous()


@each_layout
@each_implementation
def test_strides_change_nothing(impl: str, layout: Callable[[Tensor], Tensor]) -> None:
    tensors = Case(size=(5, 4), context=(3, 6), k=4, v=3, u=2, h=3).draw(*NAMES)
    placed = {name: layout(x) for name, x in tensors.items()}
    actual = outputs_and_gradients(content_output, placed, impl=impl)
    assert_all_close(actual, outputs_and_gradients(content_output, tensors, impl="reference"))


@given(case=layer_cases())
@each_normalization
@each_implementation
def test_blind_to_the_order_of_the_context(impl: str, key_normalization: str, case: Case) -> None:
    q, k, v = case.draw(*NAMES).values()
    order = torch.randperm(case.m, generator=torch.Generator().manual_seed(case.m))
    call = partial(content_output, q, key_normalization=key_normalization, impl=impl)
    assert_close(call(k[..., order], v[..., order]), call(k, v))


@given(case=layer_cases())
@each_implementation
def test_a_constant_added_to_a_key_channel_changes_nothing(impl: str, case: Case) -> None:
    """Softmax over m cancels it; over any other axis it would not, nor would it without softmax."""
    q, k, v = case.draw(*NAMES).values()
    constants = 5 * torch.arange(case.b * case.u * case.k).view(case.b, case.u, case.k, 1)
    assert_close(content_output(q, k + constants, v, impl=impl), content_output(q, k, v, impl=impl))


@given(case=layer_cases())
@each_normalization
@each_implementation
def test_linear_in_the_values_and_in_the_queries(impl: str, key_normalization: str, case: Case) -> None:
    (q, k, v), (other_q, _, other_v) = (case.draw(*NAMES, seed=seed).values() for seed in (0, 1))
    call = partial(content_output, keys=k, key_normalization=key_normalization, impl=impl)
    output = call(q, values=v)
    assert_close(call(q, values=v + 3 * other_v), output + 3 * call(q, values=other_v), what="values")
    assert_close(call(q + 3 * other_q, values=v), output + 3 * call(other_q, values=v), what="queries")


@given(case=layer_cases())
@each_implementation
def test_h_queries_equal_h_calls_with_one(impl: str, case: Case) -> None:
    q, k, v = case.draw(*NAMES).values()
    alone = [content_output(q[:, i : i + 1], k, v, impl=impl) for i in range(case.h)]
    assert_close(content_output(q, k, v, impl=impl), torch.cat(alone, dim=1))


@given(case=layer_cases())
@each_normalization
@each_implementation
def test_parts_of_the_intra_depth_sum(impl: str, key_normalization: str, case: Case) -> None:
    """Each part has keys normalised by themselves."""
    q, k, v = case.draw(*NAMES).values()
    call = partial(content_output, q, key_normalization=key_normalization, impl=impl)
    parts = [call(k[:, i : i + 1], v[:, i : i + 1]) for i in range(case.u)]
    assert_close(call(k, v), torch.stack(parts).sum(dim=0))


@each_implementation
def test_float16_survives_large_keys_and_a_long_context(impl: str) -> None:
    """Keys of about 200 and sums of 4,096 elements."""
    tensors = Case(size=(3,), context=(4096,), b=1, k=4).draw(*NAMES, dtype=torch.float16)
    tensors["keys"] = tensors["keys"] * 50
    actual = outputs_and_gradients(content_output, tensors, impl=impl)
    exact = content_output(**{name: x.double() for name, x in tensors.items()}, impl="reference")
    assert_close(actual["output"], exact, torch.float16)
    assert all(gradient.isfinite().all() for gradient in actual.values())


@each_normalization
@pytest.mark.parametrize("workspace", [1, 600, 1 << 20])
def test_a_context_in_parts_is_the_context_whole(
    monkeypatch: pytest.MonkeyPatch, workspace: int, key_normalization: str
) -> None:
    tensors = Case(size=(3, 2), context=(13,), k=4, v=3, u=2, h=3).draw(*NAMES)
    call = partial(content_output, key_normalization=key_normalization)
    expected = outputs_and_gradients(call, tensors, impl="reference")
    monkeypatch.setattr("lambdanets.functional.content.one_pass.default_workspace", lambda _: workspace)
    assert_all_close(outputs_and_gradients(call, tensors, impl="one_pass"), expected)


def test_large_keys_in_parts_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = Case(size=(3,), context=(9,), k=4, v=3).draw(*NAMES, dtype=torch.float32)
    tensors["keys"] = tensors["keys"] * 1e4
    expected = outputs_and_gradients(content_output, tensors, impl="reference")
    monkeypatch.setattr("lambdanets.functional.content.one_pass.default_workspace", lambda _: 1)
    actual = outputs_and_gradients(content_output, tensors, impl="one_pass")
    for name, one in actual.items():
        assert one.isfinite().all(), name
    assert_close(actual["output"], expected["output"], torch.float32)


@pytest.mark.parametrize("place", [torch.clone, channels_last], ids=["contiguous", "rows"])
def test_inputs_and_the_summary_are_all_that_is_kept_for_backward(place: Callable[[Tensor], Tensor]) -> None:
    drawn = Case(size=(5, 4), context=(7, 6), k=4, v=3).draw(*NAMES).values()
    q, k, v = (place(one).requires_grad_() for one in drawn)
    summary, of_summary = kept_by(lambda: content_summary(k, v))
    _, of_output = kept_by(lambda: content_output(q, k, v))
    for kept, inputs in ((of_summary, (k, v)), (of_output, (q, k, v))):
        own = {one.data_ptr() for one in inputs}
        assert own <= {one.data_ptr() for one in kept}
        others = [one.untyped_storage().nbytes() for one in kept if one.data_ptr() not in own]
        # The summary, the norms of the keys, and the summary once more for each head.
        assert sum(others) <= (2 + q.shape[1]) * summary.nbytes


def kept_by(call: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor]]:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        return call(), kept


@pytest.mark.usefixtures("unchecked")
@each_normalization
def test_can_be_differentiated_twice(key_normalization: str) -> None:
    leaves = [
        one.requires_grad_()
        for one in Case(size=(2,), context=(3,), b=1, k=2, v=2, u=2, h=1).draw(*NAMES).values()
    ]
    call = partial(content_output, key_normalization=key_normalization, impl="one_pass")
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("impl", ["one_pass", "triton"])
def test_an_empty_context_has_a_reason(impl: str) -> None:
    q, k, v = Case(size=(3,), context=(0,), k=4, v=3).draw(*NAMES).values()
    assert content_output(q, k, v).count_nonzero() == 0
    with pytest.raises(NotImplementedError, match=f"{impl}: needs a context of one element or more"):
        content_output(q, k, v, impl=impl)
