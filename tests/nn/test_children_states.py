"""Children are joined exactly where nothing is attached; states that come and go; other layers."""

import copy
import pickle
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parametrizations, parametrize, prune

from lambdanets.nn import (
    AugmentedConvolution2d,
    AxialAttention2d,
    FiLM,
    GlobalAttention2d,
    LambdaLayer,
    LambdaLayer1d,
    LambdaLayer2d,
    LambdaLayer3d,
    LinearAttention2d,
    LocalAttention2d,
    LocalRelation2d,
    SqueezeExcitation,
    VectorAttention2d,
    children,
    lambda_layer,
)
from support import attachments
from support.compare import assert_close, assert_equal
from support.plain_children import FORMS, OPTIONS, B, D, PlainLayer, make_pair, run

MAPS = ("1d", "2d", "2d, layer norm", "3d")


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Call a layer, and say whether it read its children jointly."""
    answers: list[bool] = []

    def can_join(*arguments: Any) -> bool:
        answers.append(children.can_join(*arguments))
        return answers[-1]

    monkeypatch.setattr(lambda_layer, "can_join", can_join)

    def call(layer: nn.Module, *arguments: Tensor) -> bool:
        answers.clear()
        layer(*arguments)
        (answer,) = answers
        return answer

    return call


def layer_and_inputs(form: str = "2d", training: bool = False) -> tuple[nn.Module, Tensor]:
    layer, _ = make_pair(FORMS[form], training)
    return layer, FORMS[form].arguments()["inputs"]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", MAPS)
def test_plain_children_are_joined(form: str, training: bool, joins: Callable[..., bool]) -> None:
    layer, inputs = layer_and_inputs(form, training)
    assert joins(layer, inputs)
    assert joins(copy.deepcopy(layer), inputs)
    assert joins(pickle.loads(pickle.dumps(layer)), inputs)
    layer.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)
    assert joins(layer.requires_grad_(False), inputs)
    assert joins(layer.float(), inputs.float())
    with torch.no_grad():
        assert joins(layer, inputs.float())


@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
def test_other_plain_children_are_joined(normalization: str, joins: Callable[..., bool]) -> None:
    layer = LambdaLayer2d(D, normalization=normalization, content=normalization != "none", **OPTIONS)
    inputs = torch.randn(B, D, 4, 3)
    assert joins(layer, inputs)
    layer.norm_values = None
    assert joins(layer, inputs)
    if normalization == "batch":
        layer.norm_queries.momentum = None
        assert joins(nn.SyncBatchNorm.convert_sync_batchnorm(layer), inputs)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script`:FutureWarning", "ignore:Using a non-full:FutureWarning"
)
@pytest.mark.parametrize("child", ["to_queries", "to_keys", "to_values", "norm_queries", "norm_values"])
def test_nothing_that_is_attached_is_joined(child: str, joins: Callable[..., bool]) -> None:
    harmless = {
        "frozen weight",
        "frozen weights",
        "none",
        "identity",
        "mean of all batches",
        "hooks of the weights",
    }
    harmless |= {"other epsilon and momentum", "synchronised", "statistics not tracked"}
    ways = attachments.CONVOLUTION if child.startswith("to_") else attachments.BATCH_NORM
    for name, way in ways.items():
        layer, inputs = layer_and_inputs()
        with ExitStack() as stack:
            way(layer, child, stack)
            if "compiled" not in name:
                assert joins(layer, inputs) == (name in harmless), name
        if name in attachments.EVERYWHERE:
            assert joins(layer, inputs), name


def tagged_buffer(layer: nn.Module, name: str) -> None:
    norm = layer.norm_values
    norm._buffers[name] = norm._buffers[name].as_subclass(attachments.Tagged)


def patched(module: nn.Module, name: str) -> None:
    """The module's own method becomes an attribute that does the same."""
    method = getattr(module, name)
    setattr(module, name, lambda *args, **kwargs: method(*args, **kwargs))


DIFFERENCES: dict[str, Callable[[nn.Module], Any]] = {
    "a child of a projection": lambda layer: layer.to_keys.add_module("observer", nn.Identity()),
    "a child of a norm": lambda layer: layer.norm_queries.add_module("observer", nn.Identity()),
    "call": lambda layer: patched(layer.to_values, "_call_impl"),
    "call of a norm": lambda layer: patched(layer.norm_values, "_call_impl"),
    "compiled": lambda layer: layer.to_values.compile(backend="eager"),
    "compiled norm": lambda layer: layer.norm_queries.compile(backend="eager"),
    "check": lambda layer: patched(layer.norm_values, "_check_input_dim"),
    "mean of a kind of its own": lambda layer: tagged_buffer(layer, "running_mean"),
    "variance of a kind of its own": lambda layer: tagged_buffer(layer, "running_var"),
    "bias of a kind of its own": lambda layer: attachments.tagged("bias")(layer.norm_values),
    "variance is an attribute": lambda layer: attachments.shadowed("running_var")(layer.norm_values),
    "variance taken away": lambda layer: layer.norm_values._buffers.pop("running_var"),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_difference_is_seen(difference: str, joins: Callable[..., bool]) -> None:
    layer, inputs = layer_and_inputs()
    DIFFERENCES[difference](layer)
    if difference == "variance taken away":
        with pytest.raises(AttributeError, match="running_var"):
            joins(layer, inputs)
        return
    assert not joins(layer, inputs)
    assert_close(layer(inputs), PlainLayer(layer)(inputs))


def test_inputs_of_a_kind_of_their_own_meet_the_children(joins: Callable[..., bool]) -> None:
    layer, inputs = layer_and_inputs()
    assert not joins(layer, inputs.as_subclass(attachments.Tagged))
    # Each projection makes them larger by a half.
    for weight in (layer.to_queries.weight, layer.to_keys.weight, layer.to_values.weight):
        weight.data *= 1.5
    scaled = layer(inputs)
    for weight in (layer.to_queries.weight, layer.to_keys.weight, layer.to_values.weight):
        weight.data /= 1.5
    assert_close(layer(inputs.as_subclass(attachments.Tagged)), scaled)


def remove_forward(child: nn.Module) -> None:
    child.forward = child._old_forward


def hook_and_remove(child: nn.Module) -> None:
    handles = [
        child.register_forward_hook(print),
        child.register_forward_pre_hook(print),
        child.register_full_backward_hook(print),
        child.register_full_backward_pre_hook(print),
    ]
    for handle in handles:
        handle.remove()


ATTACHED_AND_TAKEN_AWAY: dict[str, tuple[Callable[[nn.Module], Any], Callable[[nn.Module], Any]]] = {
    "hooks": (lambda child: None, hook_and_remove),
    "weight norm": (
        parametrizations.weight_norm,
        lambda child: parametrize.remove_parametrizations(child, "weight"),
    ),
    "spectral norm": (
        parametrizations.spectral_norm,
        lambda child: parametrize.remove_parametrizations(child, "weight"),
    ),
    "old weight norm": (torch.nn.utils.weight_norm, torch.nn.utils.remove_weight_norm),
    "old spectral norm": (torch.nn.utils.spectral_norm, torch.nn.utils.remove_spectral_norm),
    "pruned": (
        lambda child: prune.l1_unstructured(child, "weight", 0.4),
        lambda child: prune.remove(child, "weight"),
    ),
    "own forward": (lambda child: attachments.with_forward(child, torch.relu), remove_forward),
    "bias": (lambda child: None, lambda child: child.register_parameter("bias", None)),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
@pytest.mark.parametrize("way", ATTACHED_AND_TAKEN_AWAY)
@pytest.mark.parametrize("child", ["to_queries", "to_keys", "to_values"])
def test_what_is_taken_away_is_joined_again(child: str, way: str, joins: Callable[..., bool]) -> None:
    layer, inputs = layer_and_inputs()
    attach, take_away = ATTACHED_AND_TAKEN_AWAY[way]
    attach(layer.get_submodule(child))
    with_it = layer(inputs)
    take_away(layer.get_submodule(child))
    assert joins(layer, inputs)
    if way != "own forward":
        assert_close(layer(inputs), with_it)


def test_lazy_projections_are_called_once_and_then_joined(joins: Callable[..., bool]) -> None:
    layer, inputs = layer_and_inputs()
    expected = layer(inputs)
    weights = layer.state_dict()
    for name in ("to_queries", "to_keys", "to_values"):
        out = layer.get_submodule(name).out_channels
        setattr(layer, name, nn.LazyConv2d(out, 1, bias=False, dtype=torch.float64))
    layer.norm_queries = nn.LazyBatchNorm2d(dtype=torch.float64).eval()
    assert not joins(layer, inputs)
    layer.load_state_dict(weights)
    assert joins(layer, inputs)
    assert_close(layer(inputs), expected)


def test_projections_without_weights_of_their_own_are_left_when_all_is_drawn_again() -> None:
    layer, _ = layer_and_inputs()
    layer.to_values = nn.Sequential(layer.to_values)
    before = copy.deepcopy(layer.state_dict())
    layer.reset_parameters()
    assert torch.equal(layer.to_values[0].weight, before["to_values.0.weight"])
    assert not torch.equal(layer.to_keys.weight, before["to_keys.weight"])


def test_a_layer_that_was_made_without_storage_is_joined(joins: Callable[..., bool]) -> None:
    layer, inputs = layer_and_inputs()
    with torch.device("meta"):
        made = FORMS["2d"].build().double().eval()
    made = made.to_empty(device="cpu")
    made.load_state_dict(layer.state_dict())
    assert joins(made, inputs)
    assert_equal(made(inputs), layer(inputs))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", FORMS)
def test_functional_calls_take_the_weights_they_are_given(form: str, training: bool) -> None:
    layer, plain = make_pair(FORMS[form], training)
    arguments = tuple(FORMS[form].arguments().values())
    if len(arguments) > 1 and not FORMS[form].context:
        arguments = (arguments[0], None, arguments[1])
    given = {name: torch.randn_like(one) for name, one in layer.named_parameters()}
    buffers = {name: one.clone() for name, one in layer.named_buffers()}
    assert_close(
        functional_call(layer, {**given, **buffers}, arguments),
        functional_call(plain, {**given, **copy.deepcopy(buffers)}, arguments),
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("form", [*MAPS, "tokens", "tokens, mask"])
@pytest.mark.parametrize("attached", [False, True], ids=["plain", "hooked"])
def test_an_ensemble_is_its_members(form: str, attached: bool) -> None:
    members = []
    for seed in range(3):
        layer, _ = make_pair(FORMS[form], False)
        torch.manual_seed(seed)
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        if attached:
            layer.to_values.register_forward_hook(attachments.OutputHook())
        members.append(layer)
    arguments = tuple(FORMS[form].arguments().values())
    arguments = arguments if len(arguments) == 1 else (arguments[0], None, arguments[1])
    parameters, buffers = stack_module_state(members)
    outputs = vmap(
        lambda weights, kept: functional_call(members[0], {**weights, **kept}, arguments),
    )(parameters, buffers)
    for output, member in zip(outputs, members, strict=True):
        assert_close(output, member(*arguments))


@pytest.mark.parametrize("form", ["1d", "2d", "3d", "tokens"])
def test_statistics_move_while_a_layer_in_eval_mode_adapts(form: str) -> None:
    layer, plain = make_pair(FORMS[form], False)
    before = layer.norm_values.running_mean.clone()
    for one in (layer, plain):
        one.norm_values.train()
        one.norm_queries.train()
        for _ in range(3):
            one(*FORMS[form].arguments().values())
    assert not torch.equal(layer.norm_values.running_mean, before)
    assert_close(layer.norm_values.running_mean, plain.norm_values.running_mean)
    assert_close(layer.norm_queries.running_var, plain.norm_queries.running_var)
    assert layer.norm_values.num_batches_tracked == 3


@pytest.mark.parametrize("form", ["1d", "2d", "3d", "tokens"])
def test_pruning_holds_in_every_step(form: str) -> None:
    results = []
    for layer in make_pair(FORMS[form], True):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
        for step in range(4):
            torch.manual_seed(step)
            prune.random_unstructured(layer.to_values, "weight", 0.2)
            optimizer.zero_grad()
            layer(*FORMS[form].arguments().values()).square().mean().backward()
            optimizer.step()
        results.append(dict(layer.named_parameters()))
    assert (layer.to_values.weight == 0).float().mean() > 0.5
    for name, parameter in results[1].items():
        assert_close(results[0][name], parameter, what=name)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", FORMS)
def test_random_draws_come_in_the_order_of_the_formula(form: str, training: bool) -> None:
    layer, plain = make_pair(FORMS[form], training)
    for one in (layer, plain):
        for name in ("to_queries", "to_keys", "to_values", "norm_queries", "norm_values"):
            setattr(one, name, nn.Sequential(one.get_submodule(name), nn.Dropout(0.3)).train())
    assert_close(run(layer, FORMS[form].arguments())["output"], run(plain, FORMS[form].arguments())["output"])


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("form", "child"),
    [
        ("2d", "to_values"),
        pytest.param("2d", "norm_queries", marks=pytest.mark.slow),
        pytest.param("2d, layer norm", "position", marks=pytest.mark.slow),
        ("tokens", "position"),
        pytest.param("tokens", "to_keys", marks=pytest.mark.slow),
        pytest.param("tokens, causal", "norm_values", marks=pytest.mark.slow),
        pytest.param("tokens, dense", "position", marks=pytest.mark.slow),
    ],
)
def test_compiled_layers_call_what_has_a_hook(form: str, child: str) -> None:
    layer, inputs = layer_and_inputs(form)
    layer.get_submodule(child).register_forward_hook(lambda module, args, output: 0.5 * output)
    expected = layer(inputs)
    torch._dynamo.reset()
    assert_close(torch.compile(layer, backend="aot_eager", fullgraph=True)(inputs), expected)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.parametrize("child", ["to_queries", "to_keys", "to_values"])
@pytest.mark.parametrize("form", ["1d", "2d", "2d, layer norm", "3d"])
def test_quantised_convolutions_are_called(form: str, child: str) -> None:
    layer, inputs = layer_and_inputs(form)
    layer, inputs = layer.float(), inputs.float()
    expected = layer(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = quantization.QuantWrapper(layer.get_submodule(child)).eval()
        wrapped.qconfig = quantization.get_default_qconfig("x86")
        setattr(layer, child, quantization.prepare(wrapped))
        assert_close(layer(inputs), PlainLayer(layer)(inputs), torch.float32)
        setattr(layer, child, quantization.convert(layer.get_submodule(child)))
        output = layer(inputs)
    assert_close(output, PlainLayer(layer)(inputs), torch.float32)
    # Eight bits: near, and not the same.
    difference = ((output - expected).norm() / expected.norm()).item()
    assert 1e-4 < difference < 0.1


def test_dynamically_quantised_linear_layers_are_called() -> None:
    layer, plain = (one.float() for one in make_pair(FORMS["tokens"], False))
    inputs = FORMS["tokens"].arguments()["inputs"].float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer, plain = (quantization.quantize_dynamic(one, {nn.Linear}) for one in (layer, plain))
        assert not isinstance(layer.to_queries, nn.Linear)
        assert_close(layer(inputs), plain(inputs), torch.float32)


@pytest.mark.parametrize("normalization", ["softmax", "l2", "softmax_keys_and_queries"])
@pytest.mark.parametrize("content", [True, False])
def test_steps_call_the_position_as_forward_does(content: bool, normalization: str) -> None:
    layer = LambdaLayer(
        D,
        causal=True,
        content=content,
        normalization="layer",
        scope_size=5,
        key_normalization=normalization,
        **OPTIONS,
    ).double()
    layer.position.register_forward_hook(lambda module, inputs, output: 0.5 * output)
    inputs = torch.randn(2, 20, D, dtype=torch.float64)
    state, outputs = None, []
    for part in inputs.split([1, 1, 1, 4, 13], dim=1):
        output, state = layer.step(part, state)
        outputs.append(output)
    assert_close(torch.cat(outputs, dim=1), layer(inputs))


@pytest.mark.usefixtures("unchecked")
def test_a_step_needs_to_know_how_far_positions_reach() -> None:
    layer, inputs = layer_and_inputs("tokens, causal")
    layer.position = attachments.OwnPosition(layer.position).double()
    with pytest.raises(ValueError, match="position must have a table for step, got a OwnPosition"):
        layer.step(inputs)


@pytest.mark.parametrize(
    ("kind", "form"),
    [(LambdaLayer1d, "1d"), (LambdaLayer2d, "2d"), (LambdaLayer3d, "3d"), (LambdaLayer, "tokens")],
)
def test_a_position_of_others_may_be_handed_in(kind: type[nn.Module], form: str) -> None:
    position = attachments.OwnPosition(nn.Identity()).double()
    layer = kind(D, position=position, **OPTIONS).double()
    assert layer.position is position
    inputs = FORMS[form].arguments()["inputs"]
    expected = FORMS[form].build().double()
    expected.load_state_dict({**expected.state_dict(), **layer.state_dict()}, strict=False)
    expected.position = position
    if form != "tokens":
        expected.pool = nn.Identity()
    assert_close(layer(inputs), expected(inputs))
    layer.reset_parameters() if form != "tokens" else None


OTHER_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "global": lambda: GlobalAttention2d(8, num_heads=2, feature_size=(4, 3), stride=2),
    "axial": lambda: AxialAttention2d(8, num_heads=2, feature_size=(4, 3)),
    "linear": lambda: LinearAttention2d(8, num_heads=2),
    "augmented": lambda: AugmentedConvolution2d(16, 8, num_heads=2, feature_size=(4, 3)),
    "local": lambda: LocalAttention2d(8, num_heads=2, window_size=3),
    "relation": lambda: LocalRelation2d(8, shared_channels=4, window_size=3),
    "pairwise": lambda: VectorAttention2d(8, shared_channels=4, window_size=3),
    "patchwise": lambda: VectorAttention2d(8, relation="patchwise", shared_channels=4, window_size=3),
    "squeeze": lambda: SqueezeExcitation(8, 4),
    "film": lambda: FiLM(8, 3),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", OTHER_LAYERS)
def test_other_layers_call_every_module_once(name: str, training: bool) -> None:
    layer = OTHER_LAYERS[name]().double().train(training)
    inputs = torch.randn(2, 16 if name == "augmented" else 8, 4, 3, dtype=torch.float64)
    arguments = (inputs, torch.randn(2, 3, dtype=torch.float64)) if name == "film" else (inputs,)
    for path, _ in list(layer.named_modules())[1:]:
        hooked, wrapped = copy.deepcopy(layer), copy.deepcopy(layer)
        calls = []

        def hook(module: nn.Module, args: Any, output: Tensor, calls: list[str] = calls) -> Tensor:
            calls.append("call")
            return torch.sin(0.6 * output)

        hooked.get_submodule(path).register_forward_hook(hook)
        parent, _, last = path.rpartition(".")
        setattr(wrapped.get_submodule(parent), last, attachments.Scaled(wrapped.get_submodule(path)))
        output = hooked(*arguments)
        assert calls == ["call"], path
        assert_close(wrapped(*arguments), output, what=path)
