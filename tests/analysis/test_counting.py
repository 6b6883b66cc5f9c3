"""Counts against hand-made sums."""

import copy

import pytest
import torch
from torch import nn

from lambdanets.analysis.counting import count, count_layers, layer_flops
from lambdanets.analysis.memory import live_bytes_peak
from lambdanets.models import create_model, on_meta
from lambdanets.nn import (
    AxialAttention2d,
    GlobalAttention2d,
    LambdaLayer,
    LambdaLayer1d,
    LambdaLayer2d,
    LambdaLayer3d,
    LinearAttention2d,
    LocalAttention2d,
    VectorAttention2d,
)


def test_convolution_and_linear_layers() -> None:
    assert layer_flops(nn.Conv2d(6, 8, 3, groups=2), [(6, 9, 9)], (8, 7, 7)) == 2 * 8 * 49 * 3 * 9
    assert layer_flops(nn.Linear(5, 7), [(4, 5)], (4, 7)) == 2 * 4 * 5 * 7
    assert layer_flops(nn.BatchNorm2d(8), [(8, 7, 7)], (8, 7, 7)) == 0


@pytest.mark.parametrize(
    ("layer", "size", "taps"),
    [
        (LambdaLayer2d(8, query_depth=3, num_heads=2, intra_depth=2, scope_size=5), (7, 4), 5 * 4),
        (LambdaLayer2d(8, query_depth=3, num_heads=2, stride=2), (7, 4), 7 * 4),
        (LambdaLayer1d(8, query_depth=3, num_heads=2, scope_size=5), (7,), 5),
        (LambdaLayer3d(8, query_depth=3, num_heads=2, scope_size=(1, 3, 9)), (2, 3, 4), 1 * 3 * 4),
        (LambdaLayer2d(8, query_depth=3, num_heads=2, scope_size=None, feature_size=3), (5, 5), 25),
    ],
)
def test_lambda_layer_by_the_papers_rule(layer: LambdaLayer2d, size: tuple[int, ...], taps: int) -> None:
    n = torch.Size(size).numel()
    d, k, h, u, v = 8, 3, 2, layer.intra_depth, 4
    projections = n * d * (h * k + u * k + u * v)
    content, position, applied = n * u * k * v, n * taps * u * k * v, n * h * k * v
    counted = count(layer, (d, *size))
    assert counted.flops == 2 * (projections + content + position + applied)
    without = count(type(layer)(8, query_depth=3, num_heads=2, intra_depth=u, positional=False), (d, *size))
    assert without.flops == 2 * (projections + content + applied)


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        ({"scope_size": 5}, 9 * 5),
        ({}, 9 * 9),
        ({"scope_size": None, "feature_size": 4}, 9 * 9),
        ({"position": "dense", "feature_size": 9}, 9 * 9),
        ({"position": "none"}, 0),
    ],
)
def test_token_layer_by_the_papers_rule(options: dict, pairs: int) -> None:
    n, d, k, h, u, v = 9, 8, 3, 2, 2, 4
    layer = LambdaLayer(d, query_depth=k, num_heads=h, intra_depth=u, **options)
    projections = n * d * (h * k + u * k + u * v)
    assert count(layer, (n, d)).flops == 2 * (projections + n * u * k * v + pairs * u * k * v + n * h * k * v)


def test_a_separate_context_is_counted_by_its_own_length() -> None:
    n, m, d, c, k, h, v = 9, 6, 8, 5, 3, 2, 4
    layer = LambdaLayer(d, context_channels=c, query_depth=k, num_heads=h, scope_size=11)
    flops = layer_flops(layer, [(n, d), (m, c)], (n, d))
    projections = n * d * h * k + m * c * (k + v)
    assert flops == 2 * (projections + m * k * v + n * m * k * v + n * h * k * v)


def test_shared_parameters_are_counted_once() -> None:
    layer = nn.Conv2d(4, 4, 1, bias=False)
    counted = count(nn.Sequential(layer, layer), (4, 5, 5))
    assert counted.parameters == 16
    assert sum(row.parameters for row in counted.layers) == 16
    assert counted.flops == 2 * (2 * 25 * 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet50", [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]),
        ("lambda_resnet50", [(64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]),
        (
            "lambda_mobilenetv2",
            [(32, 112, 112), (16, 112, 112), (24, 56, 56), (32, 28, 28), (96, 14, 14), (320, 7, 7)],
        ),
    ],
)
def test_a_stage_has_the_shape_it_puts_out(name: str, shapes: list[tuple[int, ...]]) -> None:
    """Pools count nothing and squeeze-and-excitation ends in 1×1 maps, and yet a stage is as it is."""
    with on_meta():
        counted = count(create_model(name), (3, 224, 224))
    assert [stage.output_shape for stage in counted.stages][: len(shapes)] == shapes
    assert counted.stages[-1].output_shape == (1000,)
    assert sum(stage.parameters for stage in counted.stages) == counted.parameters
    assert sum(stage.flops for stage in counted.stages) == counted.flops


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("resnet_rs50", 3, 64),
        ("resnet50_ccll", 3, 64),
        ("resnet50_axial_attention", 3, 32),
        ("lambda_mobilenet_small", 3, 32),
        ("lambda_resnet_small", 3, 32),
        ("lambda_resnet_relation", 1, 16),
        ("resnet_pathfinder", 1, 32),
        ("resnet_scenes_se", 3, 64),
    ],
)
def test_the_stages_of_every_family_are_those_of_its_features(name: str, channels: int, size: int) -> None:
    # A block for each stage will do.
    options = {"depths": (1, 1, 1, 1)} if name.startswith(("resnet50", "resnet_rs")) else {}
    with on_meta():
        model = create_model(name, in_channels=channels, image_size=size, **options)
        counted = {stage.name: stage.output_shape for stage in count(model, (channels, size, size)).stages}
        features = model.features(torch.empty(2, channels, size, size))
    shapes = {stage: tuple(maps.shape[1:]) for stage, maps in features.items()}
    assert shapes.keys() >= {"c2", "c3", "c4", "c5"}
    assert {stage: counted[stage] for stage in shapes} == shapes


def test_bytes_of_a_chain_by_hand() -> None:
    # ReLU keeps its output, the convolution its input; a map of 4 channels and 5×5 has 400 bytes.
    model = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 8, 1, bias=False))
    counted = count(model, (4, 5, 5))
    assert counted.training_bytes_per_image == 400 + 400
    # The first input is the caller's and stays: with it, at most one map in and one map out.
    assert counted.inference_bytes_per_image == 400 + 400 + 800


def test_the_model_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model, (3, 5, 5))
    assert model.training
    assert not model[0]._forward_hooks
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_attention_is_counted_by_what_each_query_reaches() -> None:
    n, d = 6 * 5, 16
    rows = {
        "global": (GlobalAttention2d(d, num_heads=2, feature_size=(6, 5)), 2 * n * n * d),
        "axial": (AxialAttention2d(d, num_heads=2, feature_size=(6, 5)), 2 * n * (6 + 5) * d),
        "local": (LocalAttention2d(d, num_heads=2, window_size=7), 2 * n * n * d),
        "narrow": (LocalAttention2d(d, num_heads=2, window_size=3), 2 * n * 9 * d),
        "linear": (LinearAttention2d(d, num_heads=2), 2 * n * d * (d // 2)),
    }
    for name, (layer, products) in rows.items():
        projections = sum(part.weight.numel() for part in layer.modules() if isinstance(part, nn.Conv2d))
        counted = sum(row.flops for row in count_layers(layer, (d, 6, 5)))
        assert counted == 2 * (n * projections + products), name
        own = sum(row.parameters for row in count_layers(layer, (d, 6, 5)))
        assert own == sum(parameter.numel() for parameter in layer.parameters()), name


def test_window_sums_are_counted_without_their_weights_network() -> None:
    layer = VectorAttention2d(16, window_size=3)
    sums = [row for row in count_layers(layer, (16, 6, 5)) if row.kind == "WindowSum"]
    assert [row.flops for row in sums] == [2 * 30 * 9 * 16]


def test_memory_is_that_of_a_layer_without_hooks() -> None:
    """A lambda layer calls its children where hooks are, and keeps more."""
    layer, batches = LambdaLayer2d(16, scope_size=3), (8, 16)
    images = [torch.empty(batch, 16, 9, 9, device="meta") for batch in batches]
    counted = count(layer, (16, 9, 9))
    plain = copy.deepcopy(layer).to("meta").eval()
    few, many = (live_bytes_peak(plain, one) for one in images)
    assert counted.inference_bytes_per_image == (many - few) // 8


def test_an_adapter_of_a_projection_is_counted() -> None:
    layer = LambdaLayer2d(16, scope_size=3)
    before = count(layer, (16, 5, 4)).flops
    layer.to_keys = nn.Sequential(nn.Conv2d(16, 2, 1, bias=False), nn.Conv2d(2, 16, 1, bias=False))
    assert count(layer, (16, 5, 4)).flops - before == 2 * 20 * (16 * 2 + 2 * 16 - 16 * 16)
    layer.position = nn.Identity()
    layer.position.forward = lambda queries, values, content: values.expand(-1, 4, -1, -1, -1)
    assert count(layer, (16, 5, 4)).flops < before
