"""Networks as torch.fx records them: the check of the images is one call, which is not left out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

from lambdanets.errors import ArgumentTypeError
from lambdanets.models import create_model
from support.compare import assert_equal

STAGES = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "num_classes": 5}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet": ("resnet50", STAGES),
    "ResNet with dropped branches": ("resnet50", {**STAGES, "stochastic_depth": 0.5, "dropout": 0.5}),
    "ResNet with squeeze-and-excitation": ("resnet50", {**STAGES, "squeeze_excitation": ("c2", "c5")}),
    "MobileNetV2": ("mobilenetv2", {"depths": (1,) * 7, "num_classes": 5}),
}

each_network = pytest.mark.parametrize("network", NETWORKS)
each_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def traced(network: str, training: bool) -> tuple[Callable[..., Any], fx.GraphModule]:
    name, options = NETWORKS[network]
    model = create_model(name, **options).train(training)
    return model, fx.symbolic_trace(model)


@each_mode
@each_network
@pytest.mark.usefixtures("unchecked")
def test_a_traced_network_computes_the_same(network: str, training: bool) -> None:
    model, graph = traced(network, training)
    images = torch.randn(2, 3, 40, 48)
    outputs = []
    for function in (model, graph):
        torch.manual_seed(1)
        outputs.append(function(images))
    assert_equal(outputs[1], outputs[0])


@each_mode
@each_network
@pytest.mark.usefixtures("unchecked")
def test_a_traced_network_still_refuses_other_types(network: str, training: bool) -> None:
    """And takes the type that its weights have when it is called."""
    _, graph = traced(network, training)
    images = torch.zeros(2, 3, 40, 48)
    who = network.split()[0]
    with pytest.raises(
        ArgumentTypeError, match=rf"^{who}: images must be a tensor of .*, got torch\.uint8\.$"
    ):
        graph(images.byte())
    graph.to(torch.float64)
    assert graph(images.double()).dtype == torch.float64
