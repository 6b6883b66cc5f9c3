"""Layers and normalisations of a user's own in networks: how they are made, and what they must give."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lambdanets.analysis.counting import count
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.models import ResNetConfig, create_model, model_config, on_meta
from lambdanets.models.config import LambdaConfig
from lambdanets.nn import LambdaLayer2d, RelativePosition
from support.compare import assert_equal
from support.own_layers import Scaled, depthwise, squares

SMALL = {
    "depths": (1, 2, 1, 1),
    "widths": (8, 8, 16, 16),
    "num_classes": 5,
    "stem": "small",
    "image_size": (12, 9),
}
DEPTHWISE = "support.own_layers:depthwise"


def small(mixer: Any = depthwise, **options: Any) -> nn.Module:
    return create_model("resnet50", **{**SMALL, "layers": "AAAA", "mixer": mixer, **options})


@pytest.mark.parametrize("mixer", [depthwise, DEPTHWISE], ids=["function", "name"])
def test_it_stands_in_every_block_of_its_stages(mixer) -> None:
    model = small(mixer, layers="CAAC")
    mixers = {name: one for name, one in model.named_modules() if name.endswith(".mixer")}
    groups = {name: one.groups for name, one in mixers.items()}
    assert groups == {"c2.0.mixer": 1, "c3.0.mixer": 8, "c3.1.mixer": 8, "c4.0.mixer": 16, "c5.0.mixer": 1}
    for size in [(12, 9), (5, 14)]:
        features = model.features(torch.randn(2, 3, *size))
        assert [maps.shape[2] for maps in features.values()] == [
            -(-size[0] // stride) for stride in model.strides.values()
        ]
    model(torch.randn(2, 3, 12, 9)).sum().backward()
    assert mixers["c3.1.mixer"].weight.grad is not None


def test_what_makes_it_is_told_where_it_stands() -> None:
    told: list[tuple[int, dict[str, Any]]] = []

    def keep(channels: int, **where: Any) -> nn.Module:
        told.append((channels, where))
        return depthwise(channels, **where)

    small(keep, strides=(1, 2, 2, 1))
    names = ("stride", "feature_size", "stage", "block", "position")
    assert told == [
        (channels, dict(zip(names, where, strict=True)))
        for channels, *where in [
            (8, 1, (12, 9), "c2", 1, None),
            (8, 2, (12, 9), "c3", 1, None),
            (8, 1, (6, 5), "c3", 2, None),
            (16, 2, (6, 5), "c4", 1, None),
            (16, 1, (3, 3), "c5", 1, None),
        ]
    ]


def test_a_position_is_shared_by_the_stage() -> None:
    def shared(channels: int, *, stride: int, position: RelativePosition, **others: Any) -> nn.Module:
        return LambdaLayer2d(channels, stride=stride, position=position, query_depth=4)

    model = small(shared, share_position="stage", query_depth=4, scope_size=5)
    tables = [
        block.mixer.position.table for stage in ("c2", "c3", "c4", "c5") for block in getattr(model, stage)
    ]
    assert [tuple(table.shape) for table in tables] == [(1, 4, 5, 5)] * 5
    assert len({id(table) for table in tables}) == 4 and tables[1] is tables[2]


def test_it_keeps_its_initialisation() -> None:
    """A convolution of the network's own is drawn as the network's are."""

    def constant(channels: int, **where: Any) -> nn.Module:
        layer = depthwise(channels, **where)
        nn.init.constant_(layer.weight, 0.25)
        return layer

    model = small(constant, layers="CAAA")
    assert model.c3[0].mixer.weight.unique().tolist() == [0.25]
    assert model.c2[0].mixer.weight.unique().numel() > 8


def test_its_flops_are_counted() -> None:
    """9 multiply-adds a channel and position where a convolution has 9 for each pair of channels."""
    own, plain = count(small(), (3, 12, 9)), count(small(None, layers="CCCC"), (3, 12, 9))
    flops = {layer.name: layer.flops for layer in own.layers}
    assert flops["c3.1.mixer"] == 2 * 9 * 8 * 6 * 5
    assert plain.flops - own.flops == sum(
        (layer.output_shape[0] - 1) * flops[layer.name]
        for layer in plain.layers
        if layer.name.endswith("mixer")
    )


class Shift(nn.Module):
    """The map one position to the right, times a number: nothing that a counter knows."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.factor = stride, nn.Parameter(torch.ones(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Move and multiply."""
        return self.factor * maps.roll(1, -1)[..., :: self.stride, :: self.stride]

    def count_flops(self, input_shapes: list[tuple[int, ...]], output_shape: tuple[int, ...]) -> int:
        """One multiplication for each number."""
        return 2 * output_shape[0] * output_shape[1] * output_shape[2]


def test_what_multiplies_without_layers_counts_itself() -> None:
    counted = count(small(lambda channels, stride, **_: Shift(stride)), (3, 12, 9))
    (layer,) = (layer for layer in counted.layers if layer.name == "c4.0.mixer")
    assert (layer.kind, layer.parameters, layer.flops) == ("Shift", 1, 2 * 16 * 3 * 3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["symbolic", "jit", "compile"])
def test_programs_hold_it(kind: str) -> None:
    model, images = small().eval(), torch.randn(2, 3, 12, 9)
    if kind == "symbolic":
        program: Any = fx.symbolic_trace(model)
    elif kind == "jit":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            program = torch.jit.trace(model, (images,), check_trace=False)
    else:
        torch._dynamo.reset()
        program = torch.compile(model, fullgraph=True, backend="eager")
    assert_equal(program(images), model(images))


@pytest.mark.parametrize(
    "normalization", [squares, "support.own_layers:squares", Scaled], ids=["function", "name", "class"]
)
def test_keys_are_normalised_in_every_network(normalization: Any) -> None:
    for name in ("lambda_resnet_digits", "lambda_mobilenet_small"):
        model = create_model(name, in_channels=3, key_normalization=normalization)
        layers = [layer for layer in model.modules() if isinstance(layer, LambdaLayer2d)]
        assert layers
        for layer in layers:
            expected = Scaled if normalization is Scaled else type(squares)
            assert type(layer.key_normalization) is expected
        model(torch.randn(2, 3, 16, 16)).sum().backward()
    with on_meta():
        assert create_model("lambda_resnet_digits", key_normalization=normalization) is not None


def test_mixers_get_it_too() -> None:
    model = create_model(
        "resnet50", **SMALL, layers="AAAA", mixer="linear_attention", key_normalization=squares
    )
    assert model.c2[0].mixer.key_normalization is squares


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("mixer", "message"),
    [
        (
            lambda channels, **_: nn.Conv2d(channels, channels, 3, padding=1),
            "ResNet: mixer of c3 must give a tensor of shape (2, 8, 6, 5), got (2, 8, 12, 9).",
        ),
        (
            lambda channels, stride, **_: nn.Conv2d(channels, 4, 3, stride, 1),
            "ResNet: mixer of c2 must give a tensor of shape (2, 8, 12, 9), got (2, 4, 12, 9).",
        ),
        (
            lambda channels, **_: nn.Conv2d(4, 4, 3),
            "ResNet: mixer of c2 must take a tensor of shape (2, 8, 12, 9), got 'Given groups=1",
        ),
        (
            lambda channels, **_: nn.MultiheadAttention(channels, 2),
            "ResNet: mixer of c2 must take a tensor of shape (2, 8, 12, 9), got 'MultiheadAttention.",
        ),
    ],
)
def test_what_it_gives_is_looked_at(mixer, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        small(mixer)(torch.randn(2, 3, 12, 9))
    assert str(caught.value).startswith(message)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: small(nn.Conv2d),
            "ResNetConfig: mixer must take channels and the keywords stride, feature_size, stage, block,"
            " position, got Conv2d. It may take those it does not need as **others.",
        ),
        (
            lambda: small(lambda channels, **_: torch.relu),
            "ResNetConfig: mixer must make a torch.nn.Module, got a builtin_function_or_method from <lam",
        ),
        (
            lambda: create_model("resnet50", mixer=depthwise),
            "ResNetConfig: mixer must be given when layers have the letter A, and then alone, got depthwise"
            " and 'CCCC'. Known: augmented_convolution, ",
        ),
        (
            lambda: small("no_such_module:depthwise"),
            "ResNetConfig: mixer must name a module that can be imported, as module:name, got"
            " 'no_such_module:depthwise': No module named 'no_such_module'. Its folder must be on PYTHONPAT",
        ),
        (
            lambda: small("support.own_layers:depth"),
            "ResNetConfig: mixer must name what support.own_layers has, got 'support.own_layers:depth'."
            " Closest: depthwise.",
        ),
        (
            lambda: small("support.own_layers:NUMBER"),
            "ResNetConfig: mixer must name a function or class, got 'support.own_layers:NUMBER', a int.",
        ),
        (
            lambda: create_model("lambda_resnet_digits", key_normalization=":squares"),
            "LambdaConfig: key_normalization must name a module that can be imported, as module:name, got"
            " ':squares': Empty module name. Its folder must be on PYTHONPATH.",
        ),
        (
            lambda: ResNetConfig(layers="CCCA", mixer=3),
            "ResNetConfig: mixer must be str or Callable or None, got 3.",
        ),
        (
            lambda: LambdaConfig(key_normalization=3),
            "LambdaConfig: key_normalization must be str or Callable, got 3.",
        ),
    ],
)
def test_mistakes_are_named(build, message: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError)) as caught:
        build()
    assert str(caught.value).startswith(message)


def test_a_config_says_what_it_was_given() -> None:
    """Names are imported where layers are made, so a config compares and prints as it was written."""
    config = model_config("resnet50", layers="CCCA", mixer="no_such_module:thing")
    assert config.mixer == "no_such_module:thing" and config.has_own_mixer
    partially = partial(depthwise)
    assert model_config("resnet50", layers="CCCA", mixer=partially).mixer is partially
    assert not model_config("resnet50", layers="CCCA", mixer="local_attention").has_own_mixer
