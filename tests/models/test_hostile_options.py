"""Options of networks and layers that no network can have: one sentence, before memory is asked for."""

import dataclasses
import re
import time
from typing import Any

import pytest

from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.models import create_model, factory, on_meta
from lambdanets.models.variants import VARIANTS
from lambdanets.nn import FiLM, LambdaLayer, LambdaLayer1d, LambdaLayer2d, LambdaLayer3d, SqueezeExcitation
from support.hostile import VALUES, tried

# What --model.overrides cannot say, but Python and a config.json can.
TUPLES = [(number,) * 4 for number in (0, 1, 2, True, 2**16)] + [(1,) * 7, (2**16,) * 7, (10, 20)]
OTHERS = [*TUPLES, {"c4": (1,)}, {"c4": 3}, {"c9": ()}, ("c2",), "LLLL", "CCLX", "AAAA", 2**16, 8191]
NAMES = ["lambda_resnet_digits", "lambda_resnet50", "lambda_mobilenet_small"]
OPTIONS = [
    pytest.param(name, one.name, marks=[pytest.mark.slow] * (name == "lambda_resnet50"))
    for name in NAMES
    for row in (VARIANTS[name], VARIANTS[name].lambda_layer)
    for one in dataclasses.fields(row)
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_a_hostile_option_is_refused_or_makes_a_network(name: str, option: str) -> None:
    refused = 0
    for value in [*VALUES, *OTHERS]:
        with on_meta():
            _, text = tried(create_model, name, **{option: value})
        refused += text is not None
    assert refused > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": 1}, "ResNetConfig: widths must be a list of int, got 1."),
        ({"widths": (1, 8, 8, 8), "stem": "deep"}, "widths must begin with at least 2 for the deep stem"),
        ({"widths": (10**9,) * 4}, "ResNetConfig: widths must be at most 65,536, got (1000000000,"),
        ({"num_heads": 0}, "LambdaConfig: num_heads must be at least 1, got 0."),
        ({"num_heads": 10**9}, "LambdaConfig: num_heads must be at most 65,536, got 1000000000."),
        ({"scope_size": -3}, "LambdaConfig: scope_size must be at least 1, got -3."),
        ({"image_size": 10**6}, "ResNetConfig: image_size must be at most 8,192, got 1000000."),
        ({"lambda_layer": 3}, "create_model: lambda_layer must be a dictionary or a LambdaConfig, got 3."),
    ],
)
def test_what_no_network_has_is_one_sentence(options: Any, message: str, unchecked: None) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=re.escape(message)):
        create_model("lambda_resnet_digits", **options)


@pytest.mark.parametrize(
    "options", [{"widths": (2**14,) * 4}, {"scope_size": None, "image_size": 8192}, {"in_channels": 2**16}]
)
def test_weights_that_the_memory_cannot_hold_are_not_asked_for(
    options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "_memory", lambda: 10**7)
    start = time.monotonic()
    message = r"^create_model: lambda_resnet_digits must fit into the 0 GB of this machine's memory, got \d+"
    with pytest.raises(ArgumentError, match=message):
        create_model("lambda_resnet_digits", **options)
    assert time.monotonic() - start < 5
    # Without memory there is nothing that must fit.
    with on_meta():
        create_model("lambda_resnet_digits", **options)
    assert sum(one.numel() for one in create_model("lambda_resnet_digits").parameters()) < 10**6


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "8", None, 2**64, float("nan")])
@pytest.mark.parametrize(
    "make",
    [
        *(LambdaLayer1d, LambdaLayer2d, LambdaLayer3d, LambdaLayer),
        lambda value: LambdaLayer2d(8, query_depth=value),
        lambda value: LambdaLayer2d(8, num_heads=value),
        lambda value: LambdaLayer2d(8, intra_depth=value),
        lambda value: SqueezeExcitation(8, value),
        lambda value: FiLM(value, 8),
    ],
)
def test_the_numbers_of_a_layer_are_whole_and_positive(make: Any, value: Any) -> None:
    _, text = tried(make, value)
    assert text is not None and re.search(r"must be (int|at least 1|at most 2,147,483,647), got ", text)
