"""Types of numbers, for everything public that takes tensors: what is refused, and what changes nothing."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lambdanets import functional, models
from lambdanets import nn as layers
from lambdanets.errors import ArgumentTypeError
from lambdanets.functional import relative_position
from lambdanets.functional.position._dft import dft_matrices
from support.compare import assert_close, assert_equal
from support.public_calls import CALLS, FLOATS, OTHERS, SURROUNDINGS, PublicCall, default_dtype

MODES = {"train": True, "eval": False}


def cases(only: Callable[[PublicCall], bool] = lambda call: True, exhaustive: str = "") -> Any:
    """Every call, and of a module one in each mode; those of one form only among exhaustive tests."""
    chosen = [
        pytest.param(
            call,
            training,
            id=f"{call}-{mode}" if call.make else str(call),
            marks=[pytest.mark.exhaustive] if exhaustive and call.form == exhaustive else [],
        )
        for call in CALLS
        if only(call)
        for mode, training in MODES.items()
        if call.make or training
    ]
    return pytest.mark.parametrize("call, training", chosen)


each_case = cases()
WANTED = "must be a tensor of float16, bfloat16, float32 or float64, got "


def tensor_parameters() -> Iterator[str]:
    """Every parameter of something public whose annotation is of a tensor, as "function: parameter"."""
    for place in (functional, relative_position, layers, models):
        for name, value in public(place):
            if inspect.isfunction(value) and not name.startswith("_"):
                yield from (f"{name}: {one}" for one in tensors_of(value))
            elif inspect.isclass(value) and issubclass(value, nn.Module):
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if not method.startswith("_") and function.__module__.startswith("lambdanets."):
                        label = name if method == "forward" else f"{name}.{method}"
                        yield from (f"{label}: {one}" for one in tensors_of(function))


def public(place: Any) -> list[tuple[str, Any]]:
    if place is relative_position:
        return [(name, value) for name, value in vars(place).items() if is_of(place, value)]
    return [(name, getattr(place, name)) for name in place.__all__]


def is_of(place: Any, value: Any) -> bool:
    return inspect.isfunction(value) and value.__module__ == place.__name__


def tensors_of(function: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(function)
    texts = {name: str(one.annotation) for name, one in signature.parameters.items()}
    return [name for name, text in texts.items() if re.search(r"Tensor|Float|Bool|CausalState", text)]


def test_every_tensor_of_everything_public_has_a_case() -> None:
    wanted = set(tensor_parameters())
    covered = {f"{call.name}: {one.partition('.')[0]}" for call in CALLS for one in call.shapes}
    assert len(wanted) > 80
    assert wanted == covered


@pytest.mark.parametrize("name", sorted({call.name.partition(".")[0] for call in CALLS}))
def test_docstrings_tell_of_the_refusal(name: str) -> None:
    places = (functional, relative_position, layers, models)
    found = next(getattr(place, name) for place in places if hasattr(place, name))
    text = inspect.getdoc(found) or ""
    # `LambdaLayer1d` is otherwise as `LambdaLayer2d`.
    same_as = re.search(r"otherwise as `(\w+)`", text)
    if same_as:
        text = inspect.getdoc(getattr(layers, same_as[1])) or ""
    assert "ArgumentTypeError: " in text.partition("Raises:")[2]


def refusal(call: PublicCall, module: nn.Module | None, tensors: dict[str, Any]) -> str:
    with pytest.raises(ArgumentTypeError) as caught:
        call.run(module, tensors)
    return str(caught.value)


@each_case
@pytest.mark.usefixtures("unchecked")
def test_integers_bools_and_complex_numbers_are_refused_by_name(call: PublicCall, training: bool) -> None:
    module, tensors = call.module(training=training), call.draw()
    for parameter in call.floats:
        who, argument = call.complains(parameter)
        for dtype in OTHERS:
            message = refusal(call, module, {**tensors, parameter: tensors[parameter].to(dtype)})
            assert message == f"{who}: {argument} {WANTED}{dtype}."


@each_case
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_tensor_is_refused_by_name(call: PublicCall, training: bool) -> None:
    module, tensors = call.module(training=training), call.draw()
    for parameter in call.floats:
        who, argument = call.complains(parameter)
        array = tensors[parameter].numpy()
        others = {"a list": array.tolist(), "a ndarray": array, "a float": 1.0, "a float64": np.float64(1)}
        if not call.is_optional(parameter):
            others["a NoneType"] = None
        for kind, value in others.items():
            message = refusal(call, module, {**tensors, parameter: value})
            # A module that asks for a shape first complains itself.
            complaints = {f"{one}: {argument} {WANTED}{kind}." for one in (who, call.name.partition(".")[0])}
            assert message in complaints


@cases(lambda call: "mask" in call.shapes)
@pytest.mark.usefixtures("unchecked")
def test_a_mask_is_boolean(call: PublicCall, training: bool) -> None:
    module, tensors = call.module(training=training), call.draw()
    wrong = {str(dtype): tensors["mask"].to(dtype) for dtype in (*FLOATS, *OTHERS) if dtype != torch.bool}
    wrong |= {"a list": tensors["mask"].tolist(), "a ndarray": tensors["mask"].numpy(), "a bool": True}
    for kind, mask in wrong.items():
        message = refusal(call, module, {**tensors, "mask": mask})
        who, _ = call.complains("mask")
        assert message == f"{who}: mask must be boolean, True where a query sees an element, got {kind}."


def mixtures(call: PublicCall, equal: bool = False) -> Iterator[tuple[str, torch.dtype, torch.dtype]]:
    """A parameter of one type among others of another, as far as they must have one type; or equal types."""
    for parameter in call.floats:
        meets_others = call.has_weights or len(call.floats) > 1
        if parameter in call.own_types or not meets_others:
            continue
        yield from ((parameter, own, others) for own in FLOATS for others in FLOATS if own != others)
    if equal:
        yield from ((call.floats[0], dtype, dtype) for dtype in FLOATS)


each_mixture = cases(lambda call: any(True for _ in mixtures(call)))


@each_mixture
@pytest.mark.usefixtures("unchecked")
def test_mixed_types_are_refused_by_name(call: PublicCall, training: bool) -> None:
    names = "|".join(re.escape(call.complains(one)[1]) for one in call.floats)
    # A module may leave the comparison to the function that reads the tensors.
    who = "|".join({call.complains(one)[0] for one in call.floats} | {*functional.__all__})
    for parameter, own, others in mixtures(call):
        tensors = call.draw(others)
        tensors[parameter] = tensors[parameter].to(own)
        message = refusal(call, call.module(others, training), tensors)
        hint = "" if torch.float64 in (own, others) else ", or use torch.autocast"
        kinds = f"({own} as [a-z_ .]+, got {others}|{others} as [a-z_ .]+, got {own})"
        assert re.fullmatch(rf"({who}): ({names}) must be {kinds}\. Convert one of them{hint}\.", message)


def convolution_takes(own: torch.dtype, weights: torch.dtype) -> bool:
    try:
        nn.Conv2d(1, 1, 1).to(weights)(torch.ones(1, 1, 1, 1, dtype=own))
    except RuntimeError:
        return False
    return True


each_autocast = pytest.mark.parametrize(
    "low", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str
)


def under_autocast(low: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", dtype=low)


@pytest.mark.parametrize("others", FLOATS, ids=str)
@pytest.mark.parametrize("own", FLOATS, ids=str)
@each_autocast
def test_autocast_lets_mix_what_a_convolution_takes(
    own: torch.dtype, others: torch.dtype, low: torch.dtype
) -> None:
    """The rule of the tests below, by torch itself."""
    convolution, taken = nn.Conv2d(1, 1, 1).to(others), True
    with under_autocast(low):
        try:
            convolution(torch.ones(1, 1, 1, 1, dtype=own))
        except RuntimeError:
            taken = False
    assert taken == (own == others or torch.float64 not in (own, others))


@each_mixture
@pytest.mark.usefixtures("unchecked")
def test_autocast_leaves_float64_alone(call: PublicCall, training: bool) -> None:
    for parameter, own, others in mixtures(call):
        if torch.float64 in (own, others):
            tensors = call.draw(others)
            tensors[parameter] = tensors[parameter].to(own)
            with under_autocast(torch.bfloat16):
                assert "Convert one of them." in refusal(call, call.module(others, training), tensors)


def is_cast_first(call: PublicCall) -> bool:
    """Whether the inputs meet nothing before a projection, which autocast gives its own type."""
    others = ("ChannelLayerNorm", "DensePosition", "FiLM", "RelativePosition", "SqueezeExcitation")
    return call.make is not None and not call.name.startswith(others)


@cases(lambda call: not is_cast_first(call), exhaustive="triton")
@pytest.mark.usefixtures("unchecked")
@each_autocast
def test_types_that_autocast_lets_mix_give_what_their_numbers_give(
    call: PublicCall, training: bool, low: torch.dtype
) -> None:
    for parameter, own, others in mixtures(call, equal=True):
        if own != others and torch.float64 in (own, others):
            continue
        module, tensors = call.module(others, training), call.draw(others)
        tensors[parameter] = tensors[parameter].to(own)
        exact_module = None if module is None else call.module(others, training).double()
        exact_tensors = {
            name: one.double() if one.is_floating_point() else one for name, one in tensors.items()
        }
        exact = call.results(exact_module, exact_tensors)
        for name, result in call.results(module, tensors, lambda: under_autocast(low)).items():
            assert_close(result, exact[name], torch.bfloat16, f"{name}, {parameter} {own} in {others}")


@cases(is_cast_first)
@pytest.mark.usefixtures("unchecked")
@each_autocast
def test_under_autocast_inputs_of_any_type_are_cast_first(
    call: PublicCall, training: bool, low: torch.dtype
) -> None:
    """To the bit what inputs give that are converted before."""
    for parameter, own, others in mixtures(call):
        # torch's norms take no float16 weights under bfloat16, or the other way round.
        if torch.float64 in (own, others) or others not in (low, torch.float32):
            continue
        tensors = call.draw(others)
        mixed = tensors | {parameter: tensors[parameter].to(own)}
        cast = mixed | {parameter: mixed[parameter].to(low)}
        modules = [call.module(others, training) for _ in range(2)]
        if own not in (
            low,
            torch.float32,
        ):  # lambda layers call their children, whose sums have another order
            for part in (part for module in modules for part in module.modules()):
                part.register_forward_hook(lambda *_: None)
        results, expected = (
            call.results(module, one, lambda: under_autocast(low))
            for module, one in zip(modules, (mixed, cast), strict=True)
        )
        for name, result in results.items():
            if name == f"gradient of {parameter}":
                assert result.dtype == own
            else:
                assert_equal(result, expected[name], f"{name}, {parameter} {own} in {others}")


@pytest.mark.parametrize("name", SURROUNDINGS)
@each_case
def test_default_types_and_devices_change_nothing(call: PublicCall, training: bool, name: str) -> None:
    tensors = call.draw()
    expected = call.results(call.module(training=training), tensors)
    dft_matrices.cache_clear()
    results = call.results(call.module(training=training), tensors, *[SURROUNDINGS[name]] * 2)
    assert results.keys() == expected.keys()
    for key, result in results.items():
        assert_equal(result, expected[key], key)


@each_case
def test_a_call_under_inference_mode_spoils_nothing_for_training(call: PublicCall, training: bool) -> None:
    tensors = call.draw()
    expected = call.results(call.module(training=training), tensors)
    dft_matrices.cache_clear()
    module = call.module(training=training)
    with torch.inference_mode():
        call.run(call.module(training=training), tensors)
        if not training and module is not None:
            call.run(module, tensors)
    for key, result in call.results(module, tensors).items():
        assert_equal(result, expected[key], key)


@cases(lambda call: call.make is not None)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_modules_are_made_in_the_default_type(call: PublicCall, training: bool, dtype: torch.dtype) -> None:
    assert call.make is not None
    with default_dtype(dtype):
        module = call.make().train(training)
        results = call.results(module, call.draw(dtype), *[lambda: default_dtype(dtype)] * 2)
    made = [one for one in (*module.parameters(), *module.buffers()) if one.is_floating_point()]
    assert {one.dtype for one in made} <= {dtype}
    states = {name for name in results if call.name == "LambdaLayer.step" and name != "output 0"}
    for name, result in results.items():
        assert result.isfinite().all(), name
        assert result.dtype == dtype or (name in states and result.dtype == torch.float32), name


# Triton's interpreter cannot be compiled.
@pytest.mark.slow
@cases(lambda call: call.form != "triton")
@pytest.mark.usefixtures("unchecked", "fresh_compiler")
def test_compilers_see_through_the_checks(call: PublicCall, training: bool) -> None:
    """torch.compile without a break, and torch.export."""
    module, tensors = call.module(training=training), call.draw()

    class Program(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, tensors: dict[str, Tensor]) -> Any:
            return call.run(self.module, tensors)

    program, outputs = Program().train(training), []
    compiled = torch.compile(program, fullgraph=True, backend="eager")
    for function in (program, compiled):
        torch.manual_seed(0)
        outputs.append(tree_leaves(function(tensors)))
    for result, expected in zip(*outputs, strict=True):
        assert_close(result, expected.double(), torch.float32)
    assert torch.export.export(program, (tensors,), strict=False).graph.nodes
