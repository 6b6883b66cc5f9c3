"""What every attention keeps: derivatives, compilation, meta tensors, autocast, independence of images."""

import inspect

import pytest
import torch

from lambdanets.functional._dispatch import Problem
from support.attention_calls import CALLS, AttentionCall
from support.compare import assert_equal
from support.gradients import assert_all_close, outputs_and_gradients

each_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.label)


# In Triton's interpreter it takes seconds, and what it computes is compared in test_content_triton.py too.
@pytest.mark.parametrize(
    "call",
    [pytest.param(one, marks=[pytest.mark.slow] * ("triton" in one.label)) for one in CALLS],
    ids=lambda call: call.label,
)
def test_gradients_equal_finite_differences(call: AttentionCall) -> None:
    tensors = call.draw((3, 2), b=1, h=2, k=2, v=2)
    leaves = tuple(x.requires_grad_() for x in tensors.values())
    torch.autograd.gradcheck(lambda *args: call(**dict(zip(tensors, args, strict=True))), leaves)


@each_call
def test_images_are_independent(call: AttentionCall) -> None:
    tensors = call.draw((4, 3))
    spoiled = {name: x.clone() for name, x in tensors.items()}
    for name in {"queries", "keys", "values", "weights"} & tensors.keys():
        spoiled[name][0] = torch.nan
    before, after = call(**tensors), call(**spoiled)
    assert after[0].isnan().all()
    assert_equal(after[1:], before[1:])


@each_call
def test_an_empty_batch_gives_an_empty_output(call: AttentionCall) -> None:
    results = outputs_and_gradients(call, call.draw((4, 3), b=0))
    assert results["output"].shape == (0, 3, 5, 4, 3)
    assert not any(gradient.any() for gradient in results.values())


@each_call
def test_autocast_changes_nothing(call: AttentionCall) -> None:
    tensors = call.draw((4, 3), dtype=torch.float32)
    plain = call(**tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(call(**tensors), plain)


@each_call
def test_meta_tensors_give_the_shape(call: AttentionCall) -> None:
    output = call(**{name: x.to("meta") for name, x in call.draw((4, 3)).items()})
    assert output.is_meta
    assert output.shape == (2, 3, 5, 4, 3)


@each_call
def test_arguments_are_left_as_they_were(call: AttentionCall) -> None:
    tensors = call.draw((4, 3))
    copies = {name: x.clone() for name, x in tensors.items()}
    outputs_and_gradients(call, tensors)
    for name, x in tensors.items():
        assert_equal(x, copies[name], name)


@pytest.fixture
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what was compiled, and unwraps properties: dynamo cannot read the checks around them."""
    torch._dynamo.reset()
    for name, value in list(vars(Problem).items()):
        if isinstance(value, property):
            monkeypatch.setattr(Problem, name, property(inspect.unwrap(value.fget)))


@pytest.mark.slow
@each_call
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compiles_whole_with_gradients(call: AttentionCall) -> None:
    compiled = torch.compile(lambda **tensors: call(**tensors), fullgraph=True, backend="aot_eager")
    tensors = call.draw((4, 3))
    assert_all_close(outputs_and_gradients(compiled, tensors), outputs_and_gradients(call, tensors))
