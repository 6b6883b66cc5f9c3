"""The kernels of `content_summary`: on a GPU where there is one, else in Triton's interpreter."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lambdanets.functional import content, content_output, content_summary
from lambdanets.functional._dispatch import choose
from lambdanets.functional._layout import channels_last, in_order_of
from lambdanets.functional.content import IMPLEMENTATIONS, describe, reference, triton
from support.compare import TOLERANCE, assert_close, assert_equal
from support.gradients import cotangent, outputs_and_gradients
from support.parameters import LAYOUTS, each_normalization, each_precision
from support.strategies import Case

pytest.importorskip("triton", reason="triton is not installed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("keys", "values")

CASES = [
    Case(size=(1,), b=1, k=1, v=1),
    Case(size=(7, 5), k=16, v=8),
    Case(size=(131,), k=5, v=3, u=3, b=1),
    Case(size=(2, 3, 3), k=64, v=17, u=2, b=1),
    Case(size=(9,), k=33, v=128, b=1),
    Case(size=(4, 3), b=0),
]
PLAIN = CASES[1]
IN_PARTS = Case(size=(7, 11), k=5, v=3)

# `"softmax_keys_and_queries"` is a softmax to the keys.
OTHERS = ("softmax_keys_and_queries", "l2", "none")

summary = partial(content_summary, impl="triton")


def drawn(case: Case, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: one.to(DEVICE) for name, one in case.draw(*NAMES, dtype=dtype).items()}


def assert_right(tensors: dict[str, Tensor], key_normalization: str = "softmax") -> None:
    """The output and both gradients, against the reference in float64."""
    actual = outputs_and_gradients(summary, tensors, key_normalization=key_normalization)
    exact = {name: one.double() for name, one in tensors.items()}
    wanted = outputs_and_gradients(reference.summary, exact, key_normalization=key_normalization)
    dtype = tensors["values"].dtype
    assert actual["output"].dtype == torch.promote_types(dtype, torch.float32)
    for name, one in actual.items():
        if name in tensors:
            assert one.dtype == tensors[name].dtype, name
            assert one.stride() == in_order_of(one, tensors[name]).stride(), name
        # The softmax of a single element has no gradient, and its error no scale.
        scale = wanted[name].square().mean().sqrt()
        if scale > TOLERANCE[torch.float64]:
            assert_close(one, wanted[name], dtype, name)
        else:
            assert one.abs().max() <= TOLERANCE[dtype] if one.numel() else True, name


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context of 77 elements in 3 parts, and more than one step in each."""
    monkeypatch.setattr(triton, "_SPAN", 32)
    monkeypatch.setattr(triton, "_LOADED", 1)
    monkeypatch.setattr(triton, "FULL", 4)


@each_precision
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients(case: Case, dtype: torch.dtype) -> None:
    assert_right(drawn(case, dtype))


@each_precision
@pytest.mark.parametrize("key_normalization", OTHERS)
def test_every_normalisation(key_normalization: str, dtype: torch.dtype) -> None:
    assert_right(drawn(PLAIN, dtype), key_normalization)


@each_precision
@pytest.mark.usefixtures("short_spans")
def test_a_context_in_parts(dtype: torch.dtype) -> None:
    assert_right(drawn(IN_PARTS, dtype))


@pytest.mark.parametrize("key_normalization", OTHERS)
@pytest.mark.usefixtures("short_spans")
def test_every_normalisation_of_a_context_in_parts(key_normalization: str) -> None:
    assert_right(drawn(IN_PARTS), key_normalization)


def test_a_large_lambda_is_made_in_parts() -> None:
    assert_right(drawn(Case(size=(9,), k=64, v=256, b=1)))


@pytest.mark.slow
@each_precision
@each_normalization
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_normalisation_of_every_problem(case: Case, key_normalization: str, dtype: torch.dtype) -> None:
    assert_right(drawn(case, dtype), key_normalization)


def test_a_long_context_has_few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as one program of the last kernel can add."""
    monkeypatch.setattr(triton, "_SPAN", 16)
    monkeypatch.setattr(triton, "_LOADED", 1)
    monkeypatch.setattr(triton, "PARTS", 2)
    assert_right(drawn(IN_PARTS))


@pytest.mark.parametrize("layout", [channels_last, *LAYOUTS.values()], ids=["rows", *LAYOUTS])
@pytest.mark.usefixtures("short_spans")
def test_strides(layout: Callable[[Tensor], Tensor]) -> None:
    tensors = {name: layout(one) for name, one in drawn(IN_PARTS).items()}
    actual = outputs_and_gradients(summary, tensors)
    whole = outputs_and_gradients(summary, drawn(IN_PARTS))
    for name, one in actual.items():
        assert_equal(one, whole[name], name)


def test_views_of_rows_that_hold_more() -> None:
    """As a layer makes them: channels of queries, values and keys beside each other."""
    rows = torch.randn(2, 19, 4 + 2 * 5 + 2 * 16, device=DEVICE)
    values, keys = (
        rows[:, :, part].unflatten(2, (2, -1)).movedim(1, -1) for part in (slice(4, 14), slice(14, 46))
    )
    assert_right({"keys": keys, "values": values})


def test_keys_of_a_higher_precision() -> None:
    tensors = drawn(PLAIN, torch.bfloat16)
    with torch.autocast("cpu"):
        assert_right(tensors | {"keys": tensors["keys"].float()})


@pytest.mark.usefixtures("short_spans")
def test_large_keys_and_keys_that_are_infinitely_small() -> None:
    """Peaks of 1e4 cancel; whole parts of the context may have no weight."""
    tensors = drawn(IN_PARTS)
    tensors["keys"] = tensors["keys"] * 3 + 1e4
    tensors["keys"].flatten(3)[..., :40] = -math.inf
    assert_right(tensors)


def test_float16_survives_gradients_it_cannot_hold() -> None:
    """Gradients of lambdas are sums over a map, those of values are not."""
    tensors = drawn(PLAIN, torch.float16)
    leaves = [one.requires_grad_() for one in tensors.values()]
    output = summary(*leaves)
    scale = 2.0**18
    large = torch.autograd.grad(output, leaves, scale * cotangent(output) / 64)
    wanted = outputs_and_gradients(summary, tensors)
    for name, one in zip(NAMES, large, strict=True):
        assert_close(one * 2.0**-12, wanted[name].double(), torch.float16, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("short_spans")
def test_every_run_and_every_batch_give_the_same_bits(dtype: torch.dtype) -> None:
    tensors = drawn(IN_PARTS, dtype)
    first = outputs_and_gradients(summary, tensors)
    again = outputs_and_gradients(summary, tensors)
    for name, one in first.items():
        assert_equal(again[name], one, name)
    leaves = [one[1:].requires_grad_() for one in tensors.values()]
    output = summary(*leaves)
    gradients = torch.autograd.grad(output, leaves, cotangent(first["output"])[1:])
    for name, one in zip(first, (output, *gradients), strict=True):
        assert_equal(one, first[name][1:], name)


# Triton's interpreter warns of a peak of nothing but NaN.
@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
@pytest.mark.parametrize("key_normalization", ["softmax", "l2", "none"])
@pytest.mark.usefixtures("short_spans")
def test_nan_stays_in_its_image(key_normalization: str) -> None:
    tensors = drawn(IN_PARTS)
    spoiled = {
        name: one.index_fill(0, torch.tensor([0], device=DEVICE), math.nan) for name, one in tensors.items()
    }
    call = partial(outputs_and_gradients, summary, key_normalization=key_normalization)
    before, after = call(tensors), call(spoiled)
    assert after["output"][0].isnan().all()
    for name, one in before.items():
        assert_equal(after[name][1:], one[1:], name)


def test_what_is_kept_for_backward_does_not_grow_with_the_context() -> None:
    kept: list[Tensor] = []
    inputs = [one.requires_grad_() for one in drawn(PLAIN).values()]
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        output = summary(*inputs)
    others = {one.data_ptr(): one for one in kept if one.data_ptr() not in {one.data_ptr() for one in inputs}}
    norms = output.new_empty(PLAIN.b, PLAIN.u, 2, PLAIN.k)
    assert sorted(one.nbytes for one in others.values()) == sorted((norms.nbytes, output.nbytes))


@pytest.mark.parametrize("axes", [(0, 0), (1, None), (None, 2)])
def test_vmap_is_a_loop(axes: tuple[int | None, ...]) -> None:
    tensors = [
        one if axis is None else torch.stack([one, 2 * one, one + 1], dim=axis)
        for one, axis in zip(drawn(PLAIN).values(), axes, strict=True)
    ]

    def gradients(keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(lambda *inputs: summary(*inputs).sin().sum(), argnums=(0, 1))(keys, values)

    mapped = torch.vmap(gradients, in_dims=axes)(*tensors)
    for index in range(3):
        item = [
            one if axis is None else one.select(axis, index) for one, axis in zip(tensors, axes, strict=True)
        ]
        for one, wanted in zip(mapped, gradients(*item), strict=True):
            assert_close(one[index], wanted, torch.float32)


@pytest.mark.parametrize("key_normalization", ["softmax", "l2"])
@pytest.mark.usefixtures("unchecked")
def test_can_be_differentiated_twice(key_normalization: str) -> None:
    case = Case(size=(3,), b=1, k=2, v=2)
    leaves = [one.requires_grad_() for one in drawn(case, torch.float64).values()]
    call = partial(summary, key_normalization=key_normalization)
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("impl", ["triton", "one_pass", "reference"])
def test_opcheck(impl: str) -> None:
    keys, values = (channels_last(one).requires_grad_() for one in drawn(PLAIN, torch.bfloat16).values())
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    operator = content._content_lambdas
    torch.library.opcheck(operator.operator, (keys, values, "softmax", impl), test_utils=checks)
    lambdas, norms = operator.operator(keys.detach(), values.detach(), "softmax", impl)
    gradient = torch.randn_like(lambdas)
    arguments = (gradient, keys.detach(), values.detach(), lambdas, norms, [True, True], "softmax", impl)
    torch.library.opcheck(operator.gradients_operator, arguments, test_utils=checks)


@pytest.mark.usefixtures("unchecked")
def test_compiles_whole_with_gradients() -> None:
    torch._dynamo.reset()
    tensors = PLAIN.draw("queries", *NAMES, dtype=torch.float32)
    call = partial(content_output, impl="triton")
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    expected = outputs_and_gradients(call, tensors)
    for name, one in outputs_and_gradients(compiled, tensors).items():
        assert_equal(one, expected[name], name)


def test_flops_are_counted() -> None:
    keys, values = drawn(IN_PARTS).values()
    with FlopCounterMode(display=False) as counter:
        output = summary(keys.requires_grad_(), values)
        forward = counter.get_total_flops()
        output.sum().backward()
    b, u, k, v, m = IN_PARTS.b, IN_PARTS.u, IN_PARTS.k, IN_PARTS.v, IN_PARTS.m
    assert forward == 2 * b * u * k * v * m
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"query_depth": 65}, "needs query_depth of 64 or less, got 65"),
        ({"value_depth": 257}, "needs value_depth of 256 or less, got 257"),
        (
            {"query_depth": 64, "value_depth": 129, "dtype": torch.float64},
            "needs a lambda of 65536 bytes or less, got 131072",
        ),
        ({"size": (0,)}, "needs a context of one element or more"),
        ({"dtype": torch.complex64}, "needs float16, bfloat16, float32 or float64, got torch.complex64"),
    ],
)
def test_reasons(changed: dict[str, object], reason: str) -> None:
    problem = describe(*drawn(PLAIN).values())
    assert triton.why_not(problem) is None
    assert triton.why_not(problem._replace(**changed)) == reason


def test_it_is_the_choice_on_a_gpu_and_nowhere_else() -> None:
    problem = describe(*drawn(PLAIN).values())._replace(device="cuda", dtype=torch.bfloat16)
    assert choose(IMPLEMENTATIONS, problem).name == "triton"
    assert choose(IMPLEMENTATIONS, problem._replace(device="cpu")).name == "one_pass"
