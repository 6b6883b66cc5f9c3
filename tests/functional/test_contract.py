"""What every operator keeps, whatever it computes: derivatives, compilation, meta tensors, independence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor

from lambdanets.functional import (
    causal,
    causal_lambda_layer,
    content_output,
    content_summary,
    lambda_layer,
    multihead_lambda_layer,
    position_output,
)
from support.attention_calls import CALLS as ATTENTION_CALLS
from support.attention_calls import AttentionCall
from support.compare import assert_close, assert_equal
from support.gradients import assert_all_close, outputs_and_gradients
from support.parameters import CONTENT_FORMS, POSITION_FORMS
from support.strategies import Case


@dataclass(frozen=True)
class Call:
    """A public function, a small problem, and another of the same rank."""

    label: str
    function: Callable[..., Tensor]
    names: tuple[str, ...]
    case: Case
    other: Case

    def tensors(self, case: Case | None = None, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        case = case or self.case
        if isinstance(self.function, AttentionCall):
            return self.function.draw(case.size, case.b, case.h, case.k, case.v, dtype)
        drawn = case.draw(*self.names, dtype=dtype)
        if self.function is multihead_lambda_layer:
            drawn["embeddings"] = drawn["embeddings"].permute(2, 0, 1, 3)  # h n m k
        return drawn


def operators() -> list[Call]:
    flat = Case(size=(5,), context=(4,), u=2, h=2, k=2), Case(size=(3,), context=(6,), u=2, h=2, k=2)
    mapped = Case(size=(4, 3), scope=(3, 5), k=2, u=2), Case(size=(2, 5), scope=(3, 5), k=2, u=2)
    line = Case(size=(7,), scope=(5,), k=2, u=2), Case(size=(8,), scope=(5,), k=2, u=2)
    qkv, dense = ("queries", "keys", "values"), ("queries", "keys", "values", "embeddings")
    return [
        *(
            Call(
                f"position_output-{one.name}",
                partial(position_output, impl=one.name),
                (*qkv[::2], "table"),
                *mapped,
            )
            for one in POSITION_FORMS
        ),
        *(
            Call(f"content_summary-{one.name}", partial(content_summary, impl=one.name), qkv[1:], *mapped)
            for one in CONTENT_FORMS
        ),
        Call("content_output", content_output, qkv, *mapped),
        Call("lambda_layer", lambda_layer, dense, *flat),
        Call("causal_lambda_layer", causal_lambda_layer, (*qkv, "table"), *line),
        Call("multihead_lambda_layer", multihead_lambda_layer, dense, *flat),
    ]


def attentions() -> list[Call]:
    sizes = Case(size=(3, 2), k=2), Case(size=(2, 5), k=2)
    return [Call(one.label, one, one.names, *sizes) for one in ATTENTION_CALLS]


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "_CHUNK", 4)


each_call, each_operator = (
    pytest.mark.parametrize("call", calls, ids=lambda call: call.label)
    for calls in ([*operators(), *attentions()], operators())
)


def positional(call: Call, tensors: dict[str, Tensor]) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    leaves = tuple(x.requires_grad_() for x in tensors.values())
    return (lambda *arguments: call.function(**dict(zip(tensors, arguments, strict=True)))), leaves


@each_call
def test_gradients_equal_finite_differences(call: Call) -> None:
    torch.autograd.gradcheck(*positional(call, call.tensors(replace(call.case, b=1))))


@pytest.mark.parametrize("key_normalization", ["softmax_keys_and_queries", "l2", "none"])
@pytest.mark.parametrize(
    "call", [call for call in operators() if "keys" in call.names], ids=lambda call: call.label
)
def test_gradients_of_each_normalisation_equal_finite_differences(call: Call, key_normalization: str) -> None:
    normalized = replace(call, function=partial(call.function, key_normalization=key_normalization))
    torch.autograd.gradcheck(*positional(normalized, call.tensors(replace(call.case, b=1))), fast_mode=True)


@pytest.mark.parametrize("shared", [True, False], ids=["n m", "b n m"])
@pytest.mark.parametrize("key_normalization", ["softmax", "l2"])
def test_gradients_under_a_mask_equal_finite_differences(key_normalization: str, shared: bool) -> None:
    case = Case(size=(4,), context=(3,), k=2)
    mask = case.masks()["n m" if shared else "b n m"]
    masked = partial(lambda_layer, mask=mask, key_normalization=key_normalization)
    names = ("queries", "keys", "values", "embeddings")
    torch.autograd.gradcheck(*positional(Call("masked", masked, names, case, case), case.draw(*names)))


@each_operator
def test_second_derivatives_equal_finite_differences(call: Call) -> None:
    torch.autograd.gradgradcheck(*positional(call, call.tensors(replace(call.case, b=1))), fast_mode=True)


@each_call
def test_images_are_independent(call: Call) -> None:
    """NaN in one image leaves the others bit for bit what they were."""
    tensors = call.tensors()
    spoiled = {name: x.clone() for name, x in tensors.items()}
    for name in {"queries", "keys", "values", "weights"} & tensors.keys():
        spoiled[name][0] = torch.nan
    before, after = call.function(**tensors), call.function(**spoiled)
    assert after[0].isnan().all()
    assert_equal(after[1:], before[1:])


@each_call
def test_an_empty_batch_gives_an_empty_output(call: Call) -> None:
    results = outputs_and_gradients(call.function, call.tensors(replace(call.case, b=0)))
    assert results["output"].shape == (0, *call.function(**call.tensors()).shape[1:])
    assert not any(gradient.any() for gradient in results.values())


@each_call
def test_arguments_are_left_as_they_were(call: Call) -> None:
    tensors = call.tensors()
    copies = {name: x.clone() for name, x in tensors.items()}
    outputs_and_gradients(call.function, tensors)
    for name, x in tensors.items():
        assert_equal(x, copies[name], name)


@each_call
def test_the_same_call_gives_the_same_bits(call: Call) -> None:
    first, second = (outputs_and_gradients(call.function, call.tensors()) for _ in range(2))
    for name, x in first.items():
        assert_equal(x, second[name], name)


@each_call
def test_autocast_changes_nothing(call: Call) -> None:
    """Precision is decided by the inputs: outputs and every gradient, to the bit."""

    def under_autocast(*args: Tensor, **kwargs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return call.function(*args, **kwargs)

    tensors = call.tensors(dtype=torch.float32)
    plain = outputs_and_gradients(call.function, tensors)
    results = outputs_and_gradients(under_autocast, tensors)
    for name, result in results.items():
        assert_equal(result, plain[name], name)


@pytest.mark.parametrize(
    "call", [call for call in operators() if "table" in call.names], ids=lambda call: call.label
)
def test_under_autocast_a_float32_table_serves_activations_of_lower_precision(call: Call) -> None:
    tensors = call.tensors(dtype=torch.bfloat16) | {"table": call.tensors(dtype=torch.float32)["table"]}
    with torch.autocast("cpu"):
        results = outputs_and_gradients(call.function, tensors)
    exact = outputs_and_gradients(call.function, {name: x.double() for name, x in tensors.items()})
    for name, result in results.items():
        assert result.dtype == (torch.float32 if name == "table" else torch.bfloat16), name
        assert_close(result, exact[name], torch.bfloat16, name)


@each_call
def test_meta_tensors_give_the_shape(call: Call) -> None:
    tensors = call.tensors()
    output = call.function(**{name: x.to("meta") for name, x in tensors.items()})
    assert output.is_meta
    assert output.shape == call.function(**tensors).shape


# torch.compile sees one operator, whichever implementation of it runs.
@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        *(
            pytest.param(call, id=call.label)
            for call in operators()
            if call.label not in {"position_output-reference", "position_output-convolution"}
        ),
        *(pytest.param(call, id=call.label, marks=pytest.mark.slow) for call in attentions()),
    ],
)
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compiles_whole_with_gradients(call: Call) -> None:
    compiled = torch.compile(call.function, fullgraph=True, backend="aot_eager")
    tensors = call.tensors()
    expected = outputs_and_gradients(call.function, tensors)
    assert_all_close(outputs_and_gradients(compiled, tensors), expected)


@pytest.mark.slow
@each_operator
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compiles_for_sizes_that_change(call: Call) -> None:
    compiled = torch.compile(call.function, fullgraph=True, backend="aot_eager", dynamic=True)
    for case in (call.case, call.other):
        tensors = call.tensors(case)
        expected = outputs_and_gradients(call.function, tensors)
        assert_all_close(outputs_and_gradients(compiled, tensors), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@each_operator
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compiles_to_machine_code(call: Call) -> None:
    compiled = torch.compile(call.function, fullgraph=True, backend="inductor")
    tensors = call.tensors()
    assert_all_close(outputs_and_gradients(compiled, tensors), outputs_and_gradients(call.function, tensors))
