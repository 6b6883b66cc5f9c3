"""A child that does not fit is named in one sentence, by every layer."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support import attachments
from support.plain_children import FORMS, B, D, make_pair

MAPS = ("1d", "2d", "2d, layer norm", "3d")


def layer_and_inputs(form: str, training: bool = False) -> tuple[nn.Module, Tensor]:
    layer, _ = make_pair(FORMS[form], training)
    return layer, FORMS[form].arguments()["inputs"]


class Wrong(nn.Module):
    """A child that gives what its function says."""

    def __init__(self, give: Callable[..., Any]) -> None:
        super().__init__()
        self.give = give

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.give(*args)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", ["1d", "2d", "3d", "tokens", "tokens, causal"])
@pytest.mark.parametrize(
    ("child", "channels"),
    [("to_queries", 6), ("to_keys", 6), ("to_values", 8), ("norm_queries", 6), ("norm_values", 8)],
)
def test_a_child_of_another_size_is_named(form: str, child: str, channels: int) -> None:
    layer, inputs = layer_and_inputs(form)
    who, size = type(layer).__name__, FORMS[form].size or (5,)
    shape = (B, *size, channels) if "tokens" in form and child.startswith("to") else (B, channels, *size)
    wanted = rf"{who}: {child} must give a tensor of shape \({', '.join(map(str, shape))}\), got "
    for give, came in (
        (lambda one: torch.cat([one, one]), rf"\({2 * B}, "),
        (lambda one: one.new_zeros(B, channels), rf"\({B}, {channels}\)\."),
        (lambda one: (one, one), r"a tuple\."),
        (lambda one: None, r"a NoneType\."),
    ):
        setattr(layer, child, Wrong(give))
        with pytest.raises(ValueError, match=wanted + came):
            layer(inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", ["1d", "2d", "3d", "tokens", "tokens, causal"])
def test_a_child_of_other_channels_is_named(form: str) -> None:
    layer, inputs = layer_and_inputs(form)
    who = type(layer).__name__
    for child in ("to_queries", "to_keys", "to_values"):
        changed = copy.deepcopy(layer)
        plain = changed.get_submodule(child)
        out, d = plain.weight.shape[:2]
        setattr(changed, child, type(plain)(d, out + 2, *plain.weight.shape[2:], bias=False).double())
        with pytest.raises(ValueError, match=rf"{who}: {child} must give a tensor of shape .*, got "):
            changed(inputs)
        setattr(changed, child, type(plain)(d + 2, out, *plain.weight.shape[2:], bias=False).double())
        with pytest.raises(ValueError, match=rf"{who}: {child} must take a tensor of shape .*, got '"):
            changed(inputs)
    for child in ("norm_queries", "norm_values"):
        changed = copy.deepcopy(layer)
        setattr(
            changed,
            child,
            nn.BatchNorm1d(7).double()
            if "tokens" in form
            else attachments.BATCH_NORMS[inputs.ndim](7).double(),
        )
        with pytest.raises(ValueError, match=rf"{who}: {child} must take a tensor of shape .*, got '"):
            changed.eval()(inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", ["1d", "2d", "3d", "tokens", "tokens, causal"])
@pytest.mark.parametrize("child", ["norm_queries", "norm_values"])
def test_a_norm_that_cannot_work_on_maps_is_named(form: str, child: str, training: bool) -> None:
    layer, inputs = layer_and_inputs(form, training)
    channels = 6 if child == "norm_queries" else 8
    norms = [nn.LayerNorm(channels), nn.GroupNorm(2, 4), nn.Linear(channels, channels)]
    # Batch norms of maps with one axis more or less.
    norms += [kind(channels) for ndim, kind in attachments.BATCH_NORMS.items() if ndim != max(inputs.ndim, 3)]
    for norm in norms:
        setattr(layer, child, norm.double().train(training))
        with pytest.raises(ValueError, match=rf"{type(layer).__name__}: {child} must take a tensor of shape"):
            layer(inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", FORMS)
def test_a_position_that_gives_another_size_is_named(form: str) -> None:
    layer, _ = make_pair(FORMS[form], False)
    arguments = FORMS[form].arguments()
    size = FORMS[form].size or (5,)
    wanted = rf"position must give a tensor of shape \({', '.join(map(str, (B, 2, 4, *size)))}\), got "
    for give, came in ((lambda q, v, *_: q, rf"\({B}, 2, 3, "), (lambda *_: [1], r"a list\.")):
        layer.position = Wrong(give)
        with pytest.raises(ValueError, match=f"{type(layer).__name__}: {wanted}{came}"):
            layer(**arguments)
    layer.position = nn.Linear(3, 3).double()
    with pytest.raises(
        ValueError, match=r"position must take tensors of shapes \(3, 2, 3, .*\), \(3, 2, 4, .*, got"
    ):
        layer(**arguments)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", MAPS)
def test_a_pool_that_does_not_fit_is_named(form: str) -> None:
    layer, inputs = layer_and_inputs(form)
    who = type(layer).__name__
    layer.pool = Wrong(lambda one: (one, 1))
    with pytest.raises(ValueError, match=f"{who}: pool must give a tensor, got a tuple"):
        layer(inputs)
    layer.pool = nn.Linear(100, 3).double()
    with pytest.raises(ValueError, match=rf"{who}: pool must take a tensor of shape \({B}, {D}, .*, got '"):
        layer(inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("cannot"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        KeyError("x"),
    ],
)
@pytest.mark.parametrize("form", ["2d", "tokens"])
def test_errors_that_are_not_about_arguments_pass(form: str, error: Exception) -> None:
    layer, inputs = layer_and_inputs(form)

    def fail(*_: Any) -> None:
        raise error

    layer.to_values.register_forward_hook(fail)
    with pytest.raises(type(error)) as caught:
        layer(inputs)
    assert caught.value is error


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", ["1d", "2d", "3d"])
def test_a_projection_whose_settings_were_changed_is_named(form: str) -> None:
    for name, value, did in (("stride", 2, "give"), ("padding", 1, "give"), ("groups", 2, "take")):
        layer, inputs = layer_and_inputs(form)
        sides = (value,) * (inputs.ndim - 2)
        setattr(layer.to_values, name, value if name == "groups" else sides)
        with pytest.raises(
            ValueError, match=rf"{type(layer).__name__}: to_values must {did} a tensor of shape"
        ):
            layer(inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", ["1d", "2d", "3d", "tokens"])
def test_a_norm_of_another_type_is_named(form: str) -> None:
    layer, inputs = layer_and_inputs(form)
    layer.norm_values.float()
    with pytest.raises(ValueError, match=rf"{type(layer).__name__}: norm_values must take a tensor of shape"):
        layer(inputs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", ["1d", "2d", "3d"])
def test_a_projection_of_another_type_is_not_joined(form: str, training: bool) -> None:
    layer, inputs = layer_and_inputs(form, training)
    layer.to_values.float()
    with pytest.raises(TypeError, match=r"inputs must be torch.float32 as the weights, got torch.float64"):
        layer(inputs)
