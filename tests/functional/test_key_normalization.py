"""Keys normalised by a callable: the same equations, differentiated by autograd, and what is refused."""

from functools import partial

import pytest
import torch
from torch import Tensor

from lambdanets.functional import (
    content_output,
    content_summary,
    lambda_layer,
    multihead_lambda_layer,
    normalize_keys,
    normalize_queries,
)
from lambdanets.functional.content import IMPLEMENTATIONS, describe
from support.compare import assert_close, assert_equal
from support.gradients import assert_all_close, outputs_and_gradients
from support.oracles import assert_specified
from support.parameters import each_precision
from support.strategies import Case

CASE = Case(size=(3, 2), context=(2, 4), u=2, h=4, k=3)


def sums_to_one(keys: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
    """Squares over their sum, over what is seen where there is a mask."""
    weights = keys.square() if mask is None else keys.square() * mask
    return weights / weights.sum(dim, keepdim=True).clamp_min(1e-6)


def loops(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """yₙ = Σₘ Σᵤ Σₖ w v q with wₘ = kₘ² / Σ k² over the m that n sees, one number at a time."""
    (b, h, k, n), (u, v, m) = queries.shape, values.shape[1:]
    sees = torch.ones(b, n, m).bool() if mask is None else mask.expand(b, n, m)
    output = torch.zeros(b, h, v, n, dtype=torch.float64)
    for i in range(b):
        for at in range(n):
            for part in range(u):
                for channel in range(k):
                    seen = [x for x in range(m) if sees[i, at, x]]
                    total = sum(keys[i, part, channel, x].item() ** 2 for x in seen)
                    for x in seen:
                        weight = keys[i, part, channel, x] ** 2 / max(total, 1e-6)
                        q, value = queries[i, :, channel, at], values[i, part, :, x]
                        output[i, :, :, at] += weight * q[:, None] * value
    return output


def test_content_is_the_sum_with_the_callables_weights() -> None:
    q, k, v = CASE.draw("queries", "keys", "values").values()
    actual = content_output(q, k, v, key_normalization=sums_to_one)
    assert_specified(actual.flatten(3), loops(q.flatten(3), k.flatten(3), v.flatten(3)))


@pytest.mark.parametrize("per_image", [False, True])
def test_under_a_mask_it_sees_what_a_query_sees(per_image: bool) -> None:
    q, k, v = (one.flatten(3) for one in CASE.draw("queries", "keys", "values").values())
    (b, *_, n), m = q.shape, k.shape[3]
    mask = torch.rand(*((b,) if per_image else ()), n, m) > 0.4
    mask[..., 0, :] = False
    output = lambda_layer(q, k, v, None, mask, key_normalization=sums_to_one)
    assert_specified(output, loops(q, k, v, mask))
    assert output[..., 0].abs().max() == 0


def test_what_is_hidden_may_be_anything() -> None:
    q, k, v = (one.flatten(3) for one in CASE.draw("queries", "keys", "values").values())
    mask = torch.ones(q.shape[3], k.shape[3]).bool()
    mask[:, 2] = False
    expected = lambda_layer(q, k, v, None, mask, key_normalization=sums_to_one)
    k[..., 2] = torch.nan
    assert_equal(lambda_layer(q, k, v, None, mask, key_normalization=sums_to_one), expected)


@each_precision
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.softmax, "softmax"),
        (partial(torch.nn.functional.normalize, p=2, eps=1e-12), "l2"),
        (lambda keys, dim: keys, "none"),
    ],
    ids=["softmax", "l2", "none"],
)
def test_outputs_and_gradients_are_those_of_the_named_ones(function, name: str, dtype: torch.dtype) -> None:
    tensors = CASE.draw("queries", "keys", "values", dtype=dtype)
    actual = outputs_and_gradients(content_output, tensors, key_normalization=function)
    exact = {name: one.double() for name, one in tensors.items()}
    expected = outputs_and_gradients(content_output, exact, key_normalization=name, impl="reference")
    assert_all_close(actual, expected, dtype)


def test_gradients_are_those_of_finite_differences() -> None:
    tensors = CASE.draw("queries", "keys", "values").values()
    leaves = [one.detach().requires_grad_() for one in tensors]
    call = partial(content_output, key_normalization=sums_to_one)
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


def test_each_head_of_a_layer_with_heads_has_its_own_keys() -> None:
    q, k, v = torch.randn(1, 2, 3, 5), torch.randn(1, 2, 3, 4), torch.randn(1, 2, 6, 4)
    embeddings = torch.randn(2, 5, 4, 3)
    actual, expected = (
        multihead_lambda_layer(q, k, v, embeddings, key_normalization=one)
        for one in (torch.softmax, "softmax")
    )
    assert_close(actual, expected, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_keys_come_in_float32_at_least_and_go_back_so(dtype: torch.dtype) -> None:
    seen = []

    def keep(keys: Tensor, dim: int) -> Tensor:
        seen.append((keys.dtype, tuple(keys.shape), dim))
        return keys.to(torch.bfloat16)

    keys, values = torch.randn(2, 1, 3, 4, 5).to(dtype), torch.randn(2, 1, 6, 4, 5).to(dtype)
    summary = content_summary(keys, values, key_normalization=keep)
    wide = torch.promote_types(dtype, torch.float32)
    assert summary.dtype == wide and seen == [(wide, (2, 1, 3, 20), -1)]


def test_under_autocast_it_computes_as_it_is_written() -> None:
    keys, values = torch.randn(2, 1, 3, 20), torch.randn(2, 1, 6, 20)
    with torch.autocast("cpu", torch.bfloat16):
        summary = content_summary(keys, values, key_normalization=sums_to_one)
    assert_equal(summary, content_summary(keys, values, key_normalization=sums_to_one))


def test_queries_are_left_to_the_caller() -> None:
    queries = torch.randn(1, 2, 3, 4)
    assert normalize_queries(queries, torch.softmax) is queries
    assert_close(normalize_keys(queries, torch.softmax), normalize_keys(queries), torch.float32)


def test_what_makes_weights_by_itself_says_why_not() -> None:
    problem = describe(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 6, 4))._replace(normalizes_by_name=False)
    reasons = {one.name: one.why_not(problem) for one in IMPLEMENTATIONS}
    reason = "needs a key_normalization by name, got a callable"
    assert reasons == {"reference": None, "one_pass": reason, "triton": reason}


@pytest.mark.parametrize("impl", ["one_pass", "triton"])
def test_a_named_implementation_runs_or_gives_its_reason(impl: str) -> None:
    keys, values = torch.randn(2, 1, 3, 20), torch.randn(2, 1, 6, 20)
    with pytest.raises(NotImplementedError) as caught:
        content_summary(keys, values, key_normalization=torch.softmax, impl=impl)
    reason = f"  {impl}: needs a key_normalization by name, got a callable"
    assert str(caught.value) == f"content_summary: no implementation can run this call.\n{reason}"
    expected = content_summary(keys, values, key_normalization=torch.softmax)
    assert_equal(content_summary(keys, values, key_normalization=torch.softmax, impl="reference"), expected)
