"""λₙ = Σₘ (k̄ₘ + eₙₘ) vₘᵀ over what each query sees: the dense form, its masks and normalisations."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from torch import Tensor

from lambdanets.functional import (
    content_output,
    lambda_layer,
    multihead_lambda_layer,
    normalize_queries,
    position_output,
)
from lambdanets.functional.relative_position import dense_embeddings
from support.compare import assert_close, assert_equal
from support.gradients import assert_all_close, outputs_and_gradients
from support.oracles import assert_specified, loop_lambda_layer
from support.parameters import each_layout, each_low_precision, each_normalization
from support.strategies import Case, layer_cases

NAMES = ("queries", "keys", "values", "embeddings")
CASE = Case(size=(4,), context=(5,), u=2, h=3)
SMALL_CASES = [
    Case(size=(1,), context=(1,), b=1, k=1, v=1, h=1),
    CASE,
    Case(size=(5,), context=(3,), b=3, k=2),
]

each_mask = pytest.mark.parametrize("mask", ["no mask", "n m", "b n m"])


@each_normalization
@each_mask
@pytest.mark.parametrize("case", SMALL_CASES, ids=str)
def test_equals_the_sum_over_what_each_query_sees(case: Case, mask: str, key_normalization: str) -> None:
    tensors, sees = case.draw(*NAMES), case.masks()[mask]
    actual = lambda_layer(**tensors, mask=sees, key_normalization=key_normalization)
    expected = loop_lambda_layer(*tensors.values(), sees, key_normalization)
    assert_specified(actual, expected)


@each_low_precision
@each_normalization
@each_mask
def test_precision_of_each_dtype(mask: str, key_normalization: str, dtype: torch.dtype) -> None:
    case = Case(size=(17,), context=(23,), k=8, v=5, u=2, h=3)
    tensors = case.draw(*NAMES, dtype=dtype)
    call = partial(lambda_layer, mask=case.masks()[mask], key_normalization=key_normalization)
    exact = outputs_and_gradients(call, {name: x.double() for name, x in tensors.items()})
    assert_all_close(outputs_and_gradients(call, tensors), exact, dtype)


@each_layout
@each_mask
def test_strides_change_nothing(mask: str, layout: Callable[[Tensor], Tensor]) -> None:
    tensors, sees = CASE.draw(*NAMES), CASE.masks()[mask]
    placed = {name: layout(x) for name, x in tensors.items()}
    placed_mask = None if sees is None else sees.transpose(-2, -1).contiguous().transpose(-2, -1)
    actual = outputs_and_gradients(lambda_layer, placed, mask=placed_mask)
    assert_all_close(actual, outputs_and_gradients(lambda_layer, tensors, mask=sees))


@given(case=layer_cases())
@each_normalization
def test_a_mask_of_ones_equals_no_mask(key_normalization: str, case: Case) -> None:
    tensors = case.draw(*NAMES)
    call = partial(lambda_layer, **tensors, key_normalization=key_normalization)
    for shape in ((case.n, case.m), (case.b, case.n, case.m)):
        assert_close(call(mask=torch.ones(shape, dtype=torch.bool)), call())


@given(case=layer_cases())
@each_normalization
def test_content_and_position_sum_to_the_layer(key_normalization: str, case: Case) -> None:
    q, k, v, e = case.draw(*NAMES).values()
    call = partial(lambda_layer, key_normalization=key_normalization)
    assert_close(call(q, k, v, e), call(q, k, v, None) + call(q, None, v, e))


@given(case=layer_cases())
@each_normalization
def test_content_alone_equals_content_output(key_normalization: str, case: Case) -> None:
    q, k, v = case.draw("queries", "keys", "values").values()
    alone = content_output(normalize_queries(q, key_normalization), k, v, key_normalization=key_normalization)
    assert_close(lambda_layer(q, k, v, None, key_normalization=key_normalization), alone)


def test_position_alone_equals_position_output() -> None:
    q, v, table = Case(size=(9,), scope=(5,), u=2).draw("queries", "values", "table").values()
    assert_close(lambda_layer(q, None, v, dense_embeddings(table, (9,))), position_output(q, v, table))


@given(case=layer_cases())
@each_normalization
def test_blind_to_the_order_of_the_context(key_normalization: str, case: Case) -> None:
    """Embeddings and masks move with the elements they speak of."""
    q, k, v, e = case.draw(*NAMES).values()
    order = torch.randperm(case.m, generator=torch.Generator().manual_seed(case.m))
    for mask in case.masks().values():
        call = partial(lambda_layer, q, key_normalization=key_normalization)
        moved = call(
            k[..., order], v[..., order], e[:, order], mask=None if mask is None else mask[..., order]
        )
        assert_close(moved, call(k, v, e, mask=mask))


@each_mask
def test_a_constant_added_to_a_key_channel_changes_nothing_under_softmax(mask: str) -> None:
    q, k, v, e = CASE.draw(*NAMES).values()
    call = partial(lambda_layer, q, values=v, embeddings=e, mask=CASE.masks()[mask])
    constants = 5 * torch.arange(k[..., 0].numel()).view(*k.shape[:3], 1)
    assert_close(call(keys=k + constants), call(keys=k))


@each_normalization
def test_hidden_elements_do_not_count(key_normalization: str) -> None:
    """Taking hidden elements out of the context is the same as masking them."""
    q, k, v, e = CASE.draw(*NAMES).values()
    kept = [0, 2, 3]
    mask = torch.zeros(CASE.n, CASE.m, dtype=torch.bool)
    mask[:, kept] = True
    call = partial(lambda_layer, q, key_normalization=key_normalization)
    assert_close(call(k, v, e, mask), call(k[..., kept], v[..., kept], e[:, kept]))


@each_normalization
@pytest.mark.parametrize("shared", [True, False], ids=["n m", "b n m"])
def test_a_query_that_sees_nothing_returns_zero_with_finite_gradients(
    shared: bool, key_normalization: str
) -> None:
    tensors = CASE.draw(*NAMES)
    tensors["keys"] = 1e3 * tensors["keys"]
    mask = torch.ones(CASE.b, CASE.n, CASE.m, dtype=torch.bool)
    mask[:, 1] = False
    mask = mask[0] if shared else mask
    results = outputs_and_gradients(lambda_layer, tensors, mask=mask, key_normalization=key_normalization)
    assert_equal(results["output"][..., 1], torch.zeros(2, 3, 2, dtype=torch.float64))
    assert_equal(results["queries"][..., 1], torch.zeros(2, 3, 3, dtype=torch.float64))
    assert all(gradient.isfinite().all() for gradient in results.values())
    seeing = [0, 2, 3]
    assert results["output"][..., seeing].abs().amin(dim=(0, 1, 2)).gt(0).all()


def test_an_empty_context_gives_zero() -> None:
    q, k, v, e = Case(size=(3,), context=(0,)).draw(*NAMES).values()
    zero = torch.zeros(2, 2, 2, 3, dtype=torch.float64)
    assert_equal(lambda_layer(q, k, v, e), zero)
    assert_equal(lambda_layer(q, k, v, e, torch.ones(3, 0, dtype=torch.bool)), zero)


# Heads with their own keys, values and embeddings: h single-query layers side by side.
B, H, K, V, N, M = 2, 3, 4, 5, 3, 6


@pytest.fixture
def tensors() -> tuple[Tensor, ...]:
    """Queries, keys, values and embeddings, every letter of another size where it may be."""
    shapes = [(B, H, K, N), (B, H, K, M), (B, H, V, M), (H, N, M, K)]
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


@each_normalization
def test_each_head_is_a_layer_of_its_own(tensors: tuple[Tensor, ...], key_normalization: str) -> None:
    q, k, v, e = tensors
    output = multihead_lambda_layer(q, k, v, e, key_normalization=key_normalization)
    for head in range(H):
        one = slice(head, head + 1)
        alone = loop_lambda_layer(
            q[:, one], k[:, one], v[:, one], e[head].unsqueeze(2), key_normalization=key_normalization
        )
        assert_specified(output[:, one], alone)


@each_normalization
def test_heads_that_share_everything_are_the_multi_query_layer(
    tensors: tuple[Tensor, ...], key_normalization: str
) -> None:
    q, k, v, e = tensors
    k, v, e = (x[:, :1].expand_as(x) if x is not tensors[3] else x[:1].expand_as(x) for x in (k, v, e))
    shared = lambda_layer(q, k[:, :1], v[:, :1], e[0].unsqueeze(2), key_normalization=key_normalization)
    assert_close(multihead_lambda_layer(q, k, v, e, key_normalization=key_normalization), shared)


def test_the_einsums_of_the_paper(tensors: tuple[Tensor, ...]) -> None:
    """The listing of appendix B.3, with the h its position output forgets."""
    q, k, v, e = tensors
    content = torch.einsum("bhkm,bhvm->bhkv", k.softmax(dim=-1), v)
    position = torch.einsum("hnmk,bhvm->bnhkv", e, v)
    expected = torch.einsum("bhkn,bhkv->bhvn", q, content) + torch.einsum("bhkn,bnhkv->bhvn", q, position)
    assert_specified(multihead_lambda_layer(q, k, v, e), expected)
