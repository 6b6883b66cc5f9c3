"""Global, axial and linear attention: the equation, every implementation, and laws."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lambdanets.functional import (
    axial_attention,
    content_output,
    global_attention,
    linear_attention,
    normalize_queries,
)
from lambdanets.functional._dispatch import choose
from lambdanets.functional.attention import full
from lambdanets.functional.attention.full import describe
from support.attention import draw, loop_attention
from support.attention_calls import CALLS, AttentionCall
from support.compare import assert_close
from support.gradients import assert_all_close, outputs_and_gradients
from support.oracles import assert_specified
from support.parameters import each_layout, each_low_precision

OTHERS = [call for call in CALLS if call.impl != "reference"]
each_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.label)
each_other = pytest.mark.parametrize("call", OTHERS, ids=lambda call: call.label)
each_implementation = pytest.mark.parametrize("impl", [one.name for one in full.IMPLEMENTATIONS])


@pytest.mark.parametrize("size", [(5,), (3, 4), (1, 1), (2, 1, 3)], ids=str)
def test_global_attention_is_the_softmax_over_all_pairs(size: tuple[int, ...]) -> None:
    q, k, v = draw((2, 2, 3, *size), (2, 2, 3, *size), (2, 2, 4, *size))
    tables = draw(*[(3, side) for side in (3, 9, 1)[: len(size)]])
    assert_specified(global_attention(q, k, v, impl="reference"), loop_attention(q, k, v))
    assert_specified(global_attention(q, k, v, tables, impl="reference"), loop_attention(q, k, v, tables))


@each_implementation
def test_context_of_another_size(impl: str) -> None:
    q, k, v = draw((1, 2, 3, 4, 3), (1, 2, 3, 2, 5), (1, 2, 4, 2, 5))
    tables = draw((3, 3), (3, 11))
    assert_close(global_attention(q, k, v, tables, impl=impl), loop_attention(q, k, v, tables))
    flat_k, flat_v = k.flatten(3), v.flatten(3)
    assert_close(global_attention(q, flat_k, flat_v, impl=impl), loop_attention(q, k, v))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@each_implementation
def test_axial_attention_is_global_attention_of_each_line(impl: str, axis: int) -> None:
    q, k, v = draw((2, 2, 3, 4, 5), (2, 2, 3, 4, 5), (2, 2, 6, 4, 5))
    (table,) = draw((3, 7))
    output = axial_attention(q, k, v, table, axis=axis, impl=impl)
    for line in range(q.shape[3 + (axis + 1) % 2]):
        parts = [x.select(3 + (axis + 1) % 2, line) for x in (q, k, v)]
        assert_close(output.select(3 + (axis + 1) % 2, line), loop_attention(*parts, [table]))


def test_axial_attention_of_volumes() -> None:
    q, k, v = draw(*[(1, 2, 3, 2, 4, 3)] * 3)
    (table,) = draw((3, 7))
    output = axial_attention(q, k, v, table, axis=1)
    parts = [x[:, :, :, 1, :, 2] for x in (q, k, v)]
    assert_close(output[:, :, :, 1, :, 2], loop_attention(*parts, [table]))


@pytest.mark.parametrize("size", [(7, 5), (13,), (17, 9)], ids=str)
@each_other
def test_every_implementation_equals_the_reference(call: AttentionCall, size: tuple[int, ...]) -> None:
    tensors = call.draw(size)
    expected = outputs_and_gradients(call, tensors, impl="reference")
    assert_all_close(outputs_and_gradients(call, tensors), expected)


@each_low_precision
@each_call
def test_lower_precisions_are_as_exact_as_they_can_be(call: AttentionCall, dtype: torch.dtype) -> None:
    tensors = call.draw((17, 9), dtype=dtype)
    exact = {name: x.double() for name, x in tensors.items()}
    expected = outputs_and_gradients(call, exact, impl="reference")
    assert_all_close(outputs_and_gradients(call, tensors), expected, dtype)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (1,)], ids=str)
@each_other
def test_maps_of_one_row_or_element(call: AttentionCall, size: tuple[int, ...]) -> None:
    """Gradients that cancel to zero have no scale: an absolute bound."""
    tensors = call.draw(size)
    actual, expected = (outputs_and_gradients(call, tensors, impl=impl) for impl in (None, "reference"))
    for name, result in actual.items():
        assert (result - expected[name]).abs().max() < 1e-12, name


@each_layout
@each_call
def test_strides_change_nothing(call: AttentionCall, layout: Callable[[Tensor], Tensor]) -> None:
    tensors = call.draw((5, 4))
    maps = {"queries", "keys", "values", "weights"}
    placed = {name: layout(x) if name in maps else x for name, x in tensors.items()}
    actual = outputs_and_gradients(call, placed)
    assert_all_close(actual, outputs_and_gradients(call, tensors, impl="reference"))


@given(n=st.integers(1, 12), h=st.integers(1, 3))
@each_implementation
def test_without_positions_an_order_of_the_map_is_an_order_of_the_output(impl: str, n: int, h: int) -> None:
    q, k, v = draw((1, h, 3, n), (1, h, 3, n), (1, h, 2, n))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    output = global_attention(q, k, v, impl=impl)
    assert_close(global_attention(q[..., order], k[..., order], v[..., order], impl=impl), output[..., order])


@given(n=st.integers(1, 12), side=st.integers(0, 12).map(lambda half: 2 * half + 1))
@each_implementation
def test_on_one_row_all_three_are_the_same(impl: str, n: int, side: int) -> None:
    q, k, v = draw(*[(2, 2, 3, 1, n)] * 3)
    rows, columns = draw((3, 1), (3, side))
    expected = global_attention(q[:, :, :, 0], k[:, :, :, 0], v[:, :, :, 0], [columns], impl="reference")
    assert_close(axial_attention(q, k, v, columns, axis=1, impl=impl)[:, :, :, 0], expected)
    centred = global_attention(q, k, v, [torch.zeros_like(rows), columns], impl=impl)
    assert_close(centred[:, :, :, 0], expected)


@given(n=st.integers(1, 9), m=st.integers(1, 9), scale=st.floats(-3, 3))
@each_implementation
def test_outputs_are_means_of_values(impl: str, n: int, m: int, scale: float) -> None:
    """Affine in the values; a vector added to every key changes nothing."""
    q, k, v, shift = draw((1, 2, 3, n), (1, 2, 3, m), (1, 2, 4, m), (1, 2, 3, 1))
    output = global_attention(q, k, v, impl=impl)
    assert_close(global_attention(q, k + shift, v, impl=impl), output)
    assert_close(global_attention(q, k, 1 + scale * v, impl=impl), 1 + scale * output)


def test_linear_attention_of_one_head_is_double_attention() -> None:
    """Chen's formula: gather with attention maps over positions, distribute with vectors over channels."""
    q, k, v = draw((2, 1, 3, 4, 5), (2, 1, 3, 4, 5), (2, 1, 6, 4, 5))
    gathered = torch.einsum("bvn,bkn->bvk", v[:, 0].flatten(2), k[:, 0].flatten(2).softmax(-1))
    distributed = torch.einsum("bvk,bkn->bvn", gathered, q[:, 0].flatten(2).softmax(1))
    assert_close(linear_attention(q, k, v)[:, 0].flatten(2), distributed)


@given(h=st.integers(1, 4), n=st.integers(1, 9), m=st.integers(1, 9))
def test_each_head_of_linear_attention_is_a_content_lambda(h: int, n: int, m: int) -> None:
    q, k, v = draw((2, h, 3, n), (2, h, 3, m), (2, h, 4, m))
    shares = normalize_queries(q, "softmax_keys_and_queries")
    heads = [content_output(*(x[:, i : i + 1] for x in (shares, k, v))) for i in range(h)]
    assert_close(linear_attention(q, k, v), torch.cat(heads, dim=1))


def test_linear_attention_is_attention_where_all_keys_are_alike() -> None:
    q, k, v = draw((1, 2, 3, 5), (1, 2, 3, 1), (1, 2, 4, 7))
    k = k.expand(-1, -1, -1, 7)
    assert_close(linear_attention(q, k, v), global_attention(q, k, v))


def test_short_lines_are_multiplied_and_large_maps_fused() -> None:
    for size, b, expected in [((14,), 56, "products"), ((7, 7), 8, "products"), ((56, 56), 8, "sdpa")]:
        tensors = [torch.empty(b, 8, 16, *size, device="meta")] * 3
        problem = describe("global_attention", *tensors, relative=True)._replace(device="cpu")
        assert choose(full.IMPLEMENTATIONS, problem).name == expected


def test_an_empty_context_gives_zero_and_the_kernel_says_why_it_cannot() -> None:
    q, k = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 0)
    assert not global_attention(q, k, k).any()
    with pytest.raises(NotImplementedError, match="sdpa: needs a context of one element or more"):
        global_attention(q, k, k, impl="sdpa")
