"""Layers whose keys a callable normalises: parameters, copies, graphs and factories."""

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lambdanets import LambdaLayer, LambdaLayer1d, LambdaLayer2d, LambdaLayer3d, create_model
from lambdanets.analysis.counting import count_layers
from lambdanets.errors import ArgumentError, ArgumentTypeError
from support.compare import assert_close, assert_equal

MAPS = {1: LambdaLayer1d, 2: LambdaLayer2d, 3: LambdaLayer3d}


class Tempered(nn.Module):
    """Softmax at a learned temperature for each channel, over what is seen."""

    def __init__(self, depth: int = 1, temperature: float = 1.0) -> None:
        super().__init__()
        self.initial = temperature
        self.temperature = nn.Parameter(torch.full((depth, 1), temperature))

    def reset_parameters(self) -> None:
        """Start again."""
        nn.init.constant_(self.temperature, self.initial)

    def forward(self, keys: Tensor, dim: int, mask: Tensor | None = None) -> Tensor:
        """Weights that sum to one."""
        factor = self.temperature if mask is None else self.temperature[..., None]
        scaled = keys / factor
        return (scaled if mask is None else scaled.masked_fill(~mask, -1e30)).softmax(dim)


def pair(axes: int, **options) -> tuple[nn.Module, nn.Module, Tensor]:
    """A layer with a learned softmax, one with the named, of the same weights, and a map for them."""
    own = MAPS[axes](8, scope_size=3, key_normalization=Tempered, **options).double()
    named = MAPS[axes](8, scope_size=3, **options).double()
    state = own.state_dict()
    assert state.pop("key_normalization.temperature").shape == (1, 1)
    named.load_state_dict(state)
    return own, named, torch.randn(2, 8, *(5, 4, 3)[:axes], dtype=torch.float64)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("positional", [True, False])
def test_a_module_is_a_child_and_the_layer_is_the_same(axes: int, positional: bool) -> None:
    own, named, maps = pair(axes, positional=positional)
    results = []
    for layer in (own, named):
        output = layer(maps)
        output.square().sum().backward()
        results.append((output, layer.to_keys.weight.grad, layer.to_values.weight.grad))
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)
    assert own.key_normalization.temperature.grad.abs().sum() > 0


def test_its_parameter_has_the_gradient_of_finite_differences() -> None:
    own, _, maps = pair(1, normalization="none")
    parameter = own.key_normalization.temperature

    def output(temperature: Tensor) -> Tensor:
        changed = {"key_normalization.temperature": temperature}
        return torch.func.functional_call(own, changed, (maps,))

    assert torch.autograd.gradcheck(output, (parameter.detach().requires_grad_(),))


def test_tokens_with_a_context_and_a_mask() -> None:
    own = LambdaLayer(8, context_channels=6, scope_size=3, key_normalization=Tempered).double().eval()
    named = LambdaLayer(8, context_channels=6, scope_size=3).double().eval()
    state = own.state_dict()
    del state["key_normalization.temperature"]
    named.load_state_dict(state)
    inputs, context = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 6).double()
    for mask in (None, torch.rand(5, 7) > 0.3, torch.rand(2, 5, 7) > 0.3):
        assert_close(own(inputs, context, mask), named(inputs, context, mask))


def test_a_function_has_no_parameters() -> None:
    layer = LambdaLayer2d(8, scope_size=3, key_normalization=torch.softmax)
    plain = LambdaLayer2d(8, scope_size=3)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    assert "key_normalization=softmax" in repr(layer)
    assert "key_normalization='softmax'" in repr(plain)
    assert "(key_normalization): Tempered" in repr(LambdaLayer2d(8, key_normalization=Tempered))


@pytest.mark.parametrize(
    "factory",
    [Tempered, partial(Tempered, depth=16), lambda: Tempered(16, 2.0)],
    ids=["class", "partial", "function"],
)
def test_a_factory_makes_one_for_each_layer(factory) -> None:
    model = create_model("lambda_resnet_digits", num_classes=3, in_channels=1, key_normalization=factory)
    made = [one for one in model.modules() if isinstance(one, Tempered)]
    assert len(made) == len({id(one) for one in made}) == 4


def test_a_module_that_is_given_is_shared() -> None:
    one = Tempered()
    model = create_model("lambda_mobilenet_small", key_normalization=one)
    layers = [layer for layer in model.modules() if isinstance(layer, LambdaLayer2d)]
    assert len(layers) == 2 and all(layer.key_normalization is one for layer in layers)


def test_it_is_trained_saved_copied_and_drawn_again() -> None:
    layer = LambdaLayer2d(8, scope_size=3, key_normalization=partial(Tempered, 16))
    before = layer.key_normalization.temperature.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(2, 8, 5, 4)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(layer.key_normalization.temperature, before)
    layer.eval()
    maps = torch.randn(1, 8, 5, 4)
    again = LambdaLayer2d(8, scope_size=3, key_normalization=partial(Tempered, 16)).eval()
    again.load_state_dict(layer.state_dict())
    assert_equal(again(maps), layer(maps))
    assert_equal(copy.deepcopy(layer)(maps), layer(maps))
    layer.reset_parameters()
    assert_equal(layer.key_normalization.temperature.detach(), before)


def test_hooks_on_it_fire() -> None:
    layer = LambdaLayer2d(8, scope_size=3, key_normalization=Tempered)
    seen: list[tuple[int, ...]] = []
    layer.key_normalization.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape)))
    layer(torch.randn(2, 8, 5, 4))
    assert seen == [(2, 1, 16, 20)]


def test_its_parameters_are_counted_with_the_layer() -> None:
    plain, own = (
        count_layers(LambdaLayer2d(8, key_normalization=one), (8, 5, 4))
        for one in ("none", partial(Tempered, 16))
    )
    assert own[0].parameters == plain[0].parameters + 16 and own[0].flops == plain[0].flops


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["jit", "export", "compile"])
def test_programs_hold_it(kind: str) -> None:
    own, _, maps = pair(2)
    own.eval()
    if kind == "jit":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            program = torch.jit.trace(own, (maps,), check_trace=False)
        assert "lambdanets::content_lambdas" not in {node.kind() for node in program.inlined_graph.nodes()}
        bigger = torch.randn(3, 8, 9, 7, dtype=torch.float64)
        assert_close(program(bigger), own(bigger))
    elif kind == "export":
        exported = torch.export.export(own, (maps,))
        assert "key_normalization.temperature" in exported.state_dict
        program = exported.module()
    else:
        torch._dynamo.reset()
        program = torch.compile(own, fullgraph=True, backend="aot_eager")
    assert_close(program(maps), own(maps))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (nn.Softmax(dim=-1), ArgumentError, "must take keys and dim=-1, got Softmax."),
        (lambda keys: keys, ArgumentError, "must take keys and dim=-1, got <lambda>."),
        (5, ArgumentTypeError, "must be a name or a callable, got a int."),
        (dict, ArgumentError, "must make a torch.nn.Module, got a dict."),
        (lambda: 3, ArgumentError, "must make a torch.nn.Module, got a int."),
        (
            nn.BatchNorm1d,
            ArgumentError,
            "must be made without arguments, got '_BatchNorm.__init__() missing 1 required",
        ),
    ],
)
@pytest.mark.parametrize("layer", [LambdaLayer, LambdaLayer2d])
def test_mistakes_are_named_where_the_layer_is_made(given, kind, message: str, layer) -> None:
    with pytest.raises(kind) as caught:
        layer(8, key_normalization=given)
    assert str(caught.value).startswith(f"{layer.__name__}: key_normalization ")
    assert message in str(caught.value)


def test_a_causal_layer_takes_names_alone() -> None:
    with pytest.raises(ArgumentError) as caught:
        LambdaLayer(8, causal=True, normalization="layer", key_normalization=Tempered)
    message = "'none' for causal sums, got Tempered. With a causal mask instead, a callable works."
    assert str(caught.value).startswith("LambdaLayer: key_normalization must be one of 'softmax', ")
    assert str(caught.value).endswith(message)
    layer = LambdaLayer(8, normalization="layer", key_normalization=Tempered).double()
    causal = LambdaLayer(8, causal=True, normalization="layer").double()
    causal.load_state_dict({n: x for n, x in layer.state_dict().items() if "key_norm" not in n})
    tokens = torch.randn(2, 6, 8).double()
    assert_close(layer(tokens, mask=torch.ones(6, 6).bool().tril()), causal(tokens))
