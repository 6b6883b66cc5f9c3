"""Each query sees its past: at once, in memory linear in n, and step by step."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lambdanets.analysis.memory import saved_bytes
from lambdanets.functional import CausalState, causal, causal_lambda_layer, causal_lambda_step, lambda_layer
from lambdanets.functional.relative_position import dense_embeddings
from lambdanets.nn import LambdaLayer
from support.compare import assert_close, assert_equal
from support.gradients import assert_all_close, outputs_and_gradients
from support.oracles import assert_specified, loop_embeddings, loop_lambda_layer
from support.parameters import each_layout, each_normalization, each_precision
from support.strategies import Case

NAMES = ("queries", "keys", "values", "table")
# More than two chunks, the last one not full, and a scope that reaches over a chunk.
LONG = Case(size=(2 * causal._CHUNK + 11,), scope=(2 * causal._CHUNK + 7,), k=4, v=3, u=2, h=3)


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens a chunk, so that small problems have several."""
    monkeypatch.setattr(causal, "_CHUNK", 3)


def lower_triangle(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


def masked(
    queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, key_normalization: str = "softmax"
) -> Tensor:
    """The same by the dense form: a causal mask and embeddings that are written out."""
    n = queries.shape[-1]
    embeddings = dense_embeddings(table, (n,))
    return lambda_layer(
        queries, keys, values, embeddings, lower_triangle(n), key_normalization=key_normalization
    )


@each_normalization
@pytest.mark.parametrize(
    "case",
    [
        Case(size=(1,), scope=(1,)),
        Case(size=(7,), scope=(5,), u=2, h=3),
        Case(size=(5,), scope=(15,)),
        Case(size=(4,), scope=(3,), b=0),
    ],
    ids=str,
)
@pytest.mark.usefixtures("short_chunks")
def test_equals_the_sum_over_the_past(case: Case, key_normalization: str) -> None:
    q, k, v, table = case.draw(*NAMES).values()
    call = partial(loop_lambda_layer, mask=lower_triangle(case.n), key_normalization=key_normalization)
    embeddings = loop_embeddings(table, case.size)
    for keys, rows, expected in (
        (k, table, call(q, k, v, embeddings)),
        (k, None, call(q, k, v, None)),
        (None, table, call(q, None, v, embeddings)),
    ):
        assert_specified(causal_lambda_layer(q, keys, v, rows, key_normalization=key_normalization), expected)


@each_normalization
@each_precision
def test_equals_the_layer_under_a_causal_mask(key_normalization: str, dtype: torch.dtype) -> None:
    tensors = LONG.draw(*NAMES, dtype=dtype)
    actual = outputs_and_gradients(causal_lambda_layer, tensors, key_normalization=key_normalization)
    exact = {name: x.double() for name, x in tensors.items()}
    expected = outputs_and_gradients(masked, exact, key_normalization=key_normalization)
    assert_all_close(actual, expected, dtype)


@each_layout
def test_strides_change_nothing(layout: Callable[[Tensor], Tensor]) -> None:
    tensors = LONG.draw(*NAMES)
    placed = {name: layout(x) for name, x in tensors.items()}
    actual = outputs_and_gradients(causal_lambda_layer, placed)
    assert_all_close(actual, outputs_and_gradients(causal_lambda_layer, tensors))


@each_normalization
@pytest.mark.parametrize("now", [0, 31, 32, 50])
def test_the_future_leaks_nothing(now: int, key_normalization: str) -> None:
    """With all that comes later replaced by large numbers, the past is bit for bit what it was."""
    q, k, v, table = LONG.draw(*NAMES).values()
    call = partial(causal_lambda_layer, key_normalization=key_normalization)
    changed = [x.clone() for x in (q, k, v)]
    for x in changed:
        x[..., now + 1 :] *= -100
    before, after = call(q, k, v, table), call(*changed, table)
    assert_equal(after[..., : now + 1], before[..., : now + 1])
    assert not torch.equal(after[..., now + 1 :], before[..., now + 1 :])


@each_normalization
def test_the_past_sends_no_gradient_to_the_future(key_normalization: str) -> None:
    leaves = [x.requires_grad_() for x in LONG.draw(*NAMES).values()]
    output = causal_lambda_layer(*leaves, key_normalization=key_normalization)
    for gradient in torch.autograd.grad(output[..., :40].square().sum(), leaves[:3]):
        assert_equal(gradient[..., 40:], torch.zeros_like(gradient[..., 40:]))
        assert gradient[..., :40].any(dim=-1).all()


@pytest.mark.parametrize("trend", ["random", "falling", "rising"])
@each_normalization
def test_keys_of_a_thousand_are_finite_and_right_in_float32(key_normalization: str, trend: str) -> None:
    """Falling keys leave the past to rule over every later chunk; rising ones make it vanish."""
    tensors = LONG.draw(*NAMES, dtype=torch.float32)
    keys = 1e3 * tensors["keys"]
    sort = {
        "random": lambda x: x,
        "falling": lambda x: -(-x).sort().values,
        "rising": lambda x: x.sort().values,
    }
    tensors["keys"] = sort[trend](keys)
    exact = masked(**{name: x.double() for name, x in tensors.items()}, key_normalization=key_normalization)
    results = outputs_and_gradients(causal_lambda_layer, tensors, key_normalization=key_normalization)
    assert_close(results["output"], exact, torch.float32)
    assert all(gradient.isfinite().all() for gradient in results.values())


def step_by_step(
    lengths: list[int],
    queries: Tensor,
    keys: Tensor | None,
    values: Tensor,
    table: Tensor | None,
    **options: str,
) -> tuple[Tensor, list[CausalState]]:
    """The outputs of all steps, and the state after each."""
    outputs, states, start = [], [None], 0
    for length in lengths:
        part = slice(start, start + length)
        key = None if keys is None else keys[..., part]
        output, state = causal_lambda_step(
            queries[..., part], key, values[..., part], table, states[-1], **options
        )
        outputs.append(output)
        states.append(state)
        start += length
    return torch.cat(outputs, dim=-1), states[1:]


@each_normalization
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=8), reach=st.integers(0, 9))
@pytest.mark.usefixtures("short_chunks")
def test_step_by_step_equals_the_whole(key_normalization: str, lengths: list[int], reach: int) -> None:
    """Tokens one by one or several at a time, in steps longer and shorter than the scope."""
    q, k, v, table = Case(size=(sum(lengths),), scope=(2 * reach + 1,), u=2).draw(*NAMES).values()
    for keys, rows in ((k, table), (k, None), (None, table)):
        whole = causal_lambda_layer(q, keys, v, rows, key_normalization=key_normalization)
        stepped, _ = step_by_step(lengths, q, keys, v, rows, key_normalization=key_normalization)
        assert_close(stepped, whole)


@each_normalization
def test_gradients_flow_through_the_state(key_normalization: str) -> None:
    tensors = LONG.draw(*NAMES)

    def stepped(**leaves: Tensor) -> Tensor:
        return step_by_step([40, 1, LONG.n - 41], **leaves, key_normalization=key_normalization)[0]

    whole = outputs_and_gradients(causal_lambda_layer, tensors, key_normalization=key_normalization)
    assert_all_close(outputs_and_gradients(stepped, tensors), whole)


def test_the_state_does_not_grow() -> None:
    case = Case(size=(50,), scope=(9,), u=2)
    _, states = step_by_step([1] * 50, *case.draw(*NAMES).values())
    shapes = [[tuple(part.shape) for part in state] for state in states]
    assert all(shape == shapes[0] for shape in shapes)
    numbers = sum(part.numel() for part in states[-1])
    assert numbers == case.b * case.u * (case.k * case.v + 2 * case.k + 4 * case.v)


def test_memory_is_linear_in_n() -> None:
    layer = LambdaLayer(8, causal=True, query_depth=4, num_heads=2, scope_size=9, normalization="layer")
    at_n, at_2n = (saved_bytes(layer, torch.randn(1, n, 8)) for n in (512, 1024))
    assert 1.8 < at_2n / at_n < 2.2


def test_no_new_tokens_change_nothing() -> None:
    case = Case(size=(7,), scope=(5,), u=2, h=3)
    q, k, v, table = case.draw(*NAMES).values()
    _, before = causal_lambda_step(q, k, v, table, None)
    output, after = causal_lambda_step(q[..., :0], k[..., :0], v[..., :0], table, before)
    assert output.shape == (*q.shape[:2], v.shape[2], 0)
    for old, new in zip(before, after, strict=True):
        assert_equal(new, old)
    assert causal_lambda_layer(q[..., :0], k[..., :0], v[..., :0], table).numel() == 0
