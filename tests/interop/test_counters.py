"""The totals of other counters: ours exactly, where they are told; what they miss exactly, where not."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lambdanets.analysis.counters import fvcore_handles, ptflops_hooks, ptflops_operators, thop_rules
from lambdanets.analysis.counting import count_layers
from lambdanets.functional.position import pairs_in_bounds
from lambdanets.models import create_model
from lambdanets.nn import (
    AxialAttention2d,
    GlobalAttention2d,
    LambdaLayer,
    LambdaLayer1d,
    LambdaLayer2d,
    LambdaLayer3d,
    LinearAttention2d,
    LocalAttention2d,
    RelativePosition,
)
from support.small_network import IMAGE_SIZE, small_resnet, tool

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NETWORKS: dict[str, dict[str, Any]] = {
    "small": {},
    "shared tables": {"share_position": "stage", "depths": (2, 1, 2, 1)},
    "global": {"scope_size": None, "image_size": IMAGE_SIZE},
    "window larger than the maps": {"scope_size": 23},
    "content": {"positional": False},
    "positions": {"content": False},
    "intra-depth": {"intra_depth": 2},
    "layer norm": {"normalization": "layer"},
    "with convolutions": {"layers": "CLCL"},
}
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "1-d": (lambda: LambdaLayer1d(8, scope_size=5), (8, 11)),
    "2-d": (lambda: LambdaLayer2d(8, scope_size=5), (8, 7, 5)),
    "2-d, stride 2": (lambda: LambdaLayer2d(8, 12, scope_size=5, stride=2), (8, 20, 17)),
    "3-d": (lambda: LambdaLayer3d(8, scope_size=(1, 3, 5)), (8, 3, 4, 5)),
    "tokens": (lambda: LambdaLayer(8, scope_size=5), (11, 8)),
    "tokens without positions": (lambda: LambdaLayer(8, position="none"), (11, 8)),
}
ATTENTIONS: dict[str, Any] = {
    "global": lambda: GlobalAttention2d(16, num_heads=2),
    "axial": lambda: AxialAttention2d(16, num_heads=2, feature_size=(6, 5)),
    "local": lambda: LocalAttention2d(16, num_heads=2, window_size=3),
    "linear": lambda: LinearAttention2d(16, num_heads=2),
}

each_network = pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
each_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
each_attention = pytest.mark.parametrize("make", ATTENTIONS.values(), ids=ATTENTIONS)

BIASED = (nn.Conv2d, nn.Linear)

# While a graph is traced, sizes are tensors.
TRACED = pytest.mark.usefixtures("unchecked")

IMAGE = (3, *IMAGE_SIZE)


def network(options: dict[str, Any]) -> nn.Module:
    return small_resnet(**options).float().eval()


def our_macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    return sum(layer.flops for layer in count_layers(model, shape)) // 2


def outputs(
    model: nn.Module, shape: tuple[int, ...], kinds: tuple[type, ...], *, with_bias: bool = False
) -> Iterator[Tensor]:
    """What the modules of some kinds give that are not in a lambda layer; all, or those with a bias."""
    layers = [one for one in model.modules() if isinstance(one, LambdaLayer2d)]
    within = {part for layer in layers for part in layer.modules()} - set(layers)
    seen: list[Tensor] = []
    hooks = [
        one.register_forward_hook(lambda _, inputs, output: seen.append(output))
        for one in model.modules()
        if isinstance(one, kinds) and one not in within and not (with_bias and one.bias is None)
    ]
    model(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return iter(seen)


def by_fvcore(model: nn.Module, shape: tuple[int, ...], handles: dict[str, Any]) -> Any:
    analysis = tool("fvcore.nn").FlopCountAnalysis(model, torch.zeros(1, *shape)).set_op_handle(**handles)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def products(analysis: Any) -> int:
    """What fvcore counts beside norms."""
    counted = analysis.by_operator()
    return sum(macs for name, macs in counted.items() if name not in ("batch_norm", "layer_norm"))


@TRACED
@each_network
def test_fvcore_counts_what_we_count(options: dict[str, Any]) -> None:
    model = network(options)
    analysis = by_fvcore(model, IMAGE, fvcore_handles())
    assert products(analysis) == our_macs(model, IMAGE)
    assert not [name for name in analysis.unsupported_ops() if "lambdanets" in name]
    # Module by module, too; of a table that layers share, fvcore knows one layer.
    for row in count_layers(model, IMAGE) if "share_position" not in options else ():
        counted = analysis.by_module_and_operator()[row.name]
        norms = counted.get("batch_norm", 0) + counted.get("layer_norm", 0)
        assert analysis.by_module()[row.name] - norms == row.flops // 2, row.name


@TRACED
@each_layer
def test_fvcore_counts_single_layers(make: Any, shape: tuple[int, ...]) -> None:
    layer = make().eval()
    assert products(by_fvcore(layer, shape, fvcore_handles())) == our_macs(layer, shape)


@TRACED
@pytest.mark.parametrize("kind", ["global", "axial", "linear"])
def test_fvcore_counts_attention(kind: str) -> None:
    """With relative logits, which we do not count; local attention is what its blocks multiply."""
    layer = ATTENTIONS[kind]().eval()
    relative = 30 * (6 + 5) * 16 if kind == "axial" else 0
    assert products(by_fvcore(layer, (16, 6, 5), fvcore_handles())) == our_macs(layer, (16, 6, 5)) + relative


@TRACED
def test_fvcore_says_what_it_is_not_told() -> None:
    analysis = by_fvcore(network({}), IMAGE, {})
    analysis.total()
    unknown = analysis.unsupported_ops()
    assert (unknown["lambdanets::position_output"], unknown["lambdanets::content_lambdas"]) == (4, 4)


def by_ptflops(model: nn.Module, shape: tuple[int, ...], **options: Any) -> tuple[int, int]:
    return tool("ptflops").get_model_complexity_info(
        model, shape, print_per_layer_stat=False, as_strings=False, **options
    )


def biases(model: nn.Module, shape: tuple[int, ...], kinds: tuple[type, ...]) -> int:
    """ptflops adds one for each number that a bias is added to."""
    return sum(one.numel() for one in outputs(model, shape, kinds, with_bias=True))


def told_ptflops(model: nn.Module, shape: tuple[int, ...], **options: Any) -> tuple[int, int]:
    return by_ptflops(
        model,
        shape,
        custom_modules_hooks=ptflops_hooks(),
        backend_specific_config={"count_functional": False},
        **options,
    )


@each_network
def test_ptflops_counts_what_we_count(options: dict[str, Any]) -> None:
    model = network(options)
    products_alone = [nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d, nn.MaxPool2d]
    macs, parameters = told_ptflops(model, IMAGE, ignore_modules=products_alone)
    assert macs == our_macs(model, IMAGE) + biases(model, IMAGE, BIASED)
    assert parameters == sum(one.numel() for one in model.parameters())


def test_ptflops_adds_norms_and_activations_by_its_own_rules() -> None:
    model = network({})
    macs, _ = told_ptflops(model, IMAGE)
    norms = sum(2 * one.numel() for one in outputs(model, IMAGE, (nn.BatchNorm2d,)))
    activations = sum(one.numel() for one in outputs(model, IMAGE, (nn.ReLU,)))
    assert macs == our_macs(model, IMAGE) + biases(model, IMAGE, BIASED) + norms + activations


@each_layer
def test_ptflops_counts_single_layers(make: Any, shape: tuple[int, ...]) -> None:
    layer = make().eval()
    assert told_ptflops(layer, shape)[0] == our_macs(layer, shape)


@each_attention
def test_ptflops_counts_attention(make: Any) -> None:
    layer = make().eval()
    assert told_ptflops(layer, (16, 6, 5))[0] == our_macs(layer, (16, 6, 5))


@each_network
def test_ptflops_counts_operators(options: dict[str, Any]) -> None:
    model = network(options)
    macs, _ = by_ptflops(model, IMAGE, backend="aten", custom_modules_hooks=ptflops_operators())
    assert macs == our_macs(model, IMAGE) + biases(model, IMAGE, (nn.Conv2d,))


def by_thop(
    model: nn.Module, shape: tuple[int, ...], rules: dict[type[nn.Module], Any] | None = None
) -> tuple[int, int]:
    macs, parameters = tool("thop").profile(
        model, (torch.zeros(1, *shape),), custom_ops=thop_rules() | (rules or {}), verbose=False
    )
    return int(macs), int(parameters)


@each_network
def test_thop_counts_what_we_count(options: dict[str, Any]) -> None:
    model = network(options)
    ours, parameters = our_macs(model, IMAGE), sum(one.numel() for one in model.parameters())
    norms = sum(4 * one.numel() for one in outputs(model, IMAGE, (nn.BatchNorm2d,)))
    macs, counted = by_thop(model, IMAGE)
    assert macs == ours + norms
    # A table that layers share is counted once for each.
    again = sum(
        one.position.table.numel()
        for one in model.modules()
        if isinstance(one, LambdaLayer2d) and one.position
    )
    assert counted == parameters + again - sum(
        one.table.numel() for one in model.modules() if isinstance(one, RelativePosition)
    )


@each_layer
def test_thop_counts_single_layers(make: Any, shape: tuple[int, ...]) -> None:
    layer = make().eval()
    macs, parameters = by_thop(layer, shape)
    assert (macs, parameters) == (our_macs(layer, shape), sum(one.numel() for one in layer.parameters()))


def test_thop_counts_batches() -> None:
    model = network({"normalization": "none"})
    one, three = (
        tool("thop").profile(model, (torch.zeros(batch, *IMAGE),), custom_ops=thop_rules(), verbose=False)[0]
        for batch in (1, 3)
    )
    assert three == 3 * one


@each_network
@pytest.mark.parametrize("training", [False, True])
def test_torch_counts_what_is_multiplied(options: dict[str, Any], training: bool) -> None:
    """Borders are left out, and the content lambda is applied by itself; otherwise as we count."""
    model = network(options)
    expected = 2 * our_macs(model, IMAGE)
    for layer, size in lambda_layers(model):
        k, u, h, v, n = (
            layer.query_depth,
            layer.intra_depth,
            layer.num_heads,
            layer.value_depth,
            math.prod(size),
        )
        if layer.position is None:
            continue
        scope = layer.position.table_for(size).shape[2:]
        outside = n * math.prod(map(min, scope, size)) - pairs_in_bounds(size, scope)
        expected -= 2 * outside * u * k * v
        expected += 2 * n * h * k * v * (layer.to_keys is not None)
    with FlopCounterMode(display=False) as counter:
        model.train(training)(torch.zeros(2, *IMAGE))
    assert counter.get_total_flops() == 2 * expected


def lambda_layers(model: nn.Module) -> list[tuple[LambdaLayer2d, torch.Size]]:
    """Every lambda layer with the size of the map it works on."""
    found: list[tuple[LambdaLayer2d, torch.Size]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, _: found.append((layer, inputs[0].shape[2:])))
        for layer in model.modules()
        if isinstance(layer, LambdaLayer2d)
    ]
    model(torch.zeros(1, *IMAGE))
    for hook in hooks:
        hook.remove()
    return found


@each_network
def test_torchinfo_sees_parameters_and_misses_what_has_no_weight(options: dict[str, Any]) -> None:
    """It multiplies weights by positions: it cannot be told that lambdas are made and applied."""
    model = network(options)
    summary = tool("torchinfo").summary(model, input_size=(1, *IMAGE), verbose=0)
    if "share_position" not in options:
        assert summary.total_params == sum(one.numel() for one in model.parameters())
    missed = 0
    for layer, size in lambda_layers(model):
        projections = (layer.to_queries, layer.to_keys, layer.to_values)
        whole = next(one.flops for one in count_layers(layer, (layer.to_queries.in_channels, *size))) // 2
        missed += whole - math.prod(size) * sum(one.weight.numel() for one in projections if one is not None)
    norms = (nn.BatchNorm2d, nn.LayerNorm)
    added = sum(
        one.numel() for norm in model.modules() if isinstance(norm, norms) for one in norm.parameters()
    )
    bias_parameters = sum(
        one.bias.numel() for one in model.modules() if isinstance(one, BIASED) and one.bias is not None
    )
    assert summary.total_mult_adds == our_macs(model, IMAGE) - missed + added + bias_parameters
    assert missed > 0


@TRACED
def test_counting_leaves_a_network_as_it_was() -> None:
    model = network({})
    images = torch.randn(2, *IMAGE)
    expected = model(images)
    names = {name for name, _ in model.named_parameters()}
    our_macs(model, IMAGE)
    by_fvcore(model, IMAGE, fvcore_handles()).total()
    told_ptflops(model, IMAGE)
    by_ptflops(model, IMAGE, backend="aten", custom_modules_hooks=ptflops_operators())
    by_thop(model, IMAGE)
    tool("torchinfo").summary(model, input_size=(1, *IMAGE), verbose=0)
    assert torch.equal(model(images), expected)
    assert {name for name, _ in model.named_parameters()} == names
    assert not any(one._forward_hooks for one in model.c5[0].modules())


@TRACED
def test_a_large_network_by_every_counter() -> None:
    """The figure of `lambdanets info`, from all that can be told."""
    model = create_model("lambda_resnet50", num_classes=10).eval()
    ours = our_macs(model, (3, 64, 64))
    assert products(by_fvcore(model, (3, 64, 64), fvcore_handles())) == ours
    operators = by_ptflops(model, (3, 64, 64), backend="aten", custom_modules_hooks=ptflops_operators())
    assert operators[0] == ours + biases(model, (3, 64, 64), (nn.Conv2d,))
    rest = [nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d, nn.MaxPool2d]
    assert told_ptflops(model, (3, 64, 64), ignore_modules=rest)[0] == ours + biases(
        model, (3, 64, 64), BIASED
    )
    none = dict.fromkeys((nn.BatchNorm2d, nn.AvgPool2d), lambda *_: None)
    assert by_thop(model, (3, 64, 64), none)[0] == ours
