"""MobileNetV2 and its lambda blocks: the published network, the blocks in literal steps, any image."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lambdanets.analysis.counting import count_layers, layer_flops
from lambdanets.models import LambdaConfig, MobileNetConfig, MobileNetV2, create_model, on_meta
from lambdanets.models.mobilenet import InvertedBottleneck
from lambdanets.nn import LambdaLayer2d
from support.baselines import baseline_or_skip
from support.compare import assert_close
from support.oracles import loop_embeddings, loop_lambda_layer

SMALL = {
    "depths": (1, 1, 1, 2, 1, 2, 1),
    "widths": (4, 8, 8, 8, 12, 12, 16),
    "stem_width": 4,
    "head_width": 20,
    "num_classes": 5,
}


def small(**options) -> MobileNetV2:
    """Options of the lambda layers stand beside the others, as in `create_model`."""
    return create_model("mobilenetv2", **{**SMALL, "query_depth": 4, **options})


@cache
def parameters_and_flops(name: str, **overrides) -> tuple[int, int]:
    with on_meta():
        layers = count_layers(create_model(name, **overrides), (3, 224, 224))
    return sum(layer.parameters for layer in layers), sum(layer.flops for layer in layers)


def test_published_counts_of_mobilenetv2() -> None:
    # 3.50 M in Table 17 (which prints 603 MFLOPs), 3.4 M and 300 M multiply-adds in Sandler et al. 2018.
    assert parameters_and_flops("mobilenetv2") == (3_504_872, 601_548_544)


def test_counts_of_table_17() -> None:
    """The paper prints 3.21 M and 563 MFLOPs; the blocks of its text have more of both."""
    assert parameters_and_flops("lambda_mobilenetv2") == (3_236_824, 575_538_560)
    assert parameters_and_flops("lambda_mobilenetv2", lambda_projection=False)[0] == 3_206_680


def test_savings_of_table_17_are_those_of_one_convolution_and_of_projections_alone() -> None:
    """603 - 563 MFLOPs: when neither the lambdas nor their application count, and one 1×1 goes."""
    plain = parameters_and_flops("mobilenetv2")
    with on_meta():
        model = create_model("lambda_mobilenetv2", lambda_projection=False)
    flops = sum(
        sum(
            layer_flops(one, [layer.output_shape], (one.out_channels, *layer.output_shape[1:]))
            for one in parts
        )
        if (parts := projections(model, layer.name))
        else layer.flops
        for layer in count_layers(model, (3, 224, 224))
    )
    assert round((plain[1] - flops) / 1e6) == 603 - 563


def projections(model: nn.Module, name: str) -> list[nn.Module]:
    layer = model.get_submodule(name)
    if not isinstance(layer, LambdaLayer2d):
        return []
    return [layer.to_queries, layer.to_keys, layer.to_values]


def test_lambda_blocks_stand_where_the_paper_has_them() -> None:
    config = create_model("lambda_mobilenetv2").config
    assert [config.mixers(stage) for stage in ("c1", "c2", "c3", "c4", "c5")] == [
        "C",
        "CC",
        "CCC",
        "CCCLCCC",
        "CCLC",
    ]
    blocks = [block for stage in ("c4", "c5") for block in config.blocks(stage) if block.is_lambda]
    assert [(block.number, block.in_channels, block.out_channels, block.map_size) for block in blocks] == [
        (10, 64, 64, (14, 14)),
        (16, 160, 160, (7, 7)),
    ]


@pytest.mark.slow
def test_outputs_are_those_of_timm() -> None:
    """timm's network has the same layers in the same order."""
    theirs = baseline_or_skip("mobilenetv2_100", num_classes=10).double().eval()
    ours = create_model("mobilenetv2", num_classes=10).double().eval()
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    images = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize(("stride", "out_channels"), [(1, 8), (2, 12)])
def test_a_lambda_block_in_literal_steps(stride: int, out_channels: int, projected: bool) -> None:
    """1×1, norm, ReLU6, lambdas by loops, pool, norm; ReLU6, 1×1, norm where it is projected; shortcut."""
    config = MobileNetConfig(
        widths=(8, out_channels, *(8,) * 5),
        strides=(1, stride, *(1,) * 5),
        depths=(1,) * 7,
        lambda_blocks=(2,),
        lambda_projection=projected,
        lambda_layer=LambdaConfig(query_depth=3, num_heads=2, scope_size=3),
    )
    (settings,) = config.blocks("c2")
    block = InvertedBottleneck(config, settings).double().eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.normal_(tensor)
    inputs = torch.randn(2, 8, 4, 3, dtype=torch.float64)
    maps = F.relu6(normalized(block.expand[1], F.conv2d(inputs, block.expand[0].weight)))
    maps = normalized(block.norm_mixer, literal_lambda_layer(block.mixer, maps, stride))
    if projected:
        maps = normalized(block.project[1], F.conv2d(F.relu6(maps), block.project[0].weight))
    expected = maps + inputs if (stride, out_channels) == (1, 8) else maps
    assert_close(block(inputs), expected)


def normalized(norm: nn.BatchNorm2d, maps: torch.Tensor) -> torch.Tensor:
    shape = (1, -1, 1, 1)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (maps - norm.running_mean.view(shape)) * scale.view(shape) + norm.bias.view(shape)


def literal_lambda_layer(layer: LambdaLayer2d, maps: torch.Tensor, stride: int) -> torch.Tensor:
    b, _, height, width = maps.shape
    queries = normalized(layer.norm_queries, F.conv2d(maps, layer.to_queries.weight))
    values = normalized(layer.norm_values, F.conv2d(maps, layer.to_values.weight))
    output = loop_lambda_layer(
        queries.flatten(2).unflatten(1, (2, 3)),
        F.conv2d(maps, layer.to_keys.weight).flatten(2).unflatten(1, (1, 3)),
        values.flatten(2).unflatten(1, (1, -1)),
        loop_embeddings(layer.position.table.detach(), (height, width)),
    )
    output = output.reshape(b, -1, height, width)
    return F.avg_pool2d(output, 3, 2, 1, count_include_pad=False) if stride == 2 else output


@pytest.mark.parametrize("size", [(33, 50), (8, 8)])
@pytest.mark.parametrize("lambda_blocks", [(), tuple(range(1, 10))])
def test_features_have_the_channels_and_strides_they_claim(size, lambda_blocks) -> None:
    model = small(lambda_blocks=lambda_blocks).eval()
    features = model.features(torch.randn(1, 3, *size))
    assert list(features) == ["c2", "c3", "c4", "c5"]
    assert list(model.strides.values()) == [4, 8, 16, 32]
    for stage, maps in features.items():
        sides = (-(-side // model.strides[stage]) for side in size)
        assert tuple(maps.shape[1:]) == (model.channels[stage], *sides)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_other_strides_are_claimed_too() -> None:
    model = small(strides=(1, 1, 2, 1, 2, 1, 1)).eval()
    features = model.features(torch.randn(1, 3, 32, 32))
    assert {stage: 32 // maps.shape[2] for stage, maps in features.items()} == model.strides
    assert list(model.strides.values()) == [2, 4, 8, 8]


def test_a_global_table_covers_the_map_that_enters_the_block() -> None:
    model = small(lambda_blocks=(3, 4), scope_size=None, image_size=(64, 96)).eval()
    # Block 3 enters c3 at 16×24 and pools after it; block 4 enters c4.
    assert model.c3[0].mixer.position.table.shape[2:] == (31, 47)
    assert model.c4[0].mixer.position.table.shape[2:] == (15, 23)
    assert model(torch.randn(1, 3, 70, 50)).isfinite().all()


def test_overrides_reach_the_layers() -> None:
    model = create_model(
        "lambda_mobilenetv2", num_classes=2, lambda_blocks=[1, 17], query_depth=8, dropout=0.2
    )
    layers = {name: part for name, part in model.named_modules() if isinstance(part, LambdaLayer2d)}
    assert list(layers) == ["c1.0.mixer", "c5.3.mixer"]
    assert {layer.query_depth for layer in layers.values()} == {8}
    assert model.dropout.p == 0.2


@pytest.mark.slow
def test_learns_to_tell_most_of_32_images_apart() -> None:
    model = small(lambda_blocks=(4, 7), num_classes=4)
    images, labels = torch.randn(32, 3, 16, 16), torch.arange(32) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    # Chance is 8; of four seeds the worst had 31.
    assert (model(images).argmax(1) == labels).sum() >= 28


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 2)}, r"depths must have 7 positive numbers, one a group, got \(1, 2\)"),
        ({"widths": (8, 8, 8, 0, 8, 8, 8)}, r"widths must be at least 1, got \(8, 8, 8, 0"),
        ({"strides": (1, 2, 3, 2, 1, 2, 1)}, "MobileNetConfig: strides must be at most 2, got"),
        ({"expansions": (1,) * 6}, "expansions must have 7 positive numbers"),
        ({"lambda_blocks": (0, 10)}, r"lambda_blocks must be from 1 to 17, got \(0, 10\)"),
        ({"lambda_blocks": (18,)}, r"lambda_blocks must be from 1 to 17, got \(18,\)"),
        ({"stem_width": 0}, "stem_width must be at least 1, got 0"),
        ({"head_width": 0}, "head_width must be at least 1, got 0"),
        ({"scope_size": 4}, "LambdaConfig: scope_size must be positive and odd, got 4"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ({"image_size": (32, 0)}, r"image_size must be at least 1, got \(32, 0\)"),
        ({"num_heads": 3}, "divisible by num_heads, got 64 and 3"),
        ({"layers": "CCLL"}, "unknown override 'layers'.* Known: lambda_layer, strides"),
    ],
)
def test_mistakes_are_named(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("lambda_mobilenetv2", **options)


def test_every_module_is_called() -> None:
    model = create_model("lambda_mobilenetv2", num_classes=3)
    calls: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model.eval()(torch.randn(1, 3, 64, 64))
    assert sorted(calls) == sorted(name for name, _ in model.named_modules())
