"""Weights that accelerate keeps elsewhere, and brings when a module is called."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lambdanets.nn import LambdaLayer
from support.compare import assert_close, assert_equal
from support.small_network import IMAGE_SIZE, SmallNetwork, images, projected, small_resnet, tool, written_out

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CPU = torch.device("cpu")


def by_calls(network: nn.Module) -> nn.Module:
    """A copy with a hook on every child, so that none is read."""
    network = copy.deepcopy(network)
    for module in network.modules():
        module.register_forward_hook(lambda *_: None)
    return network


def test_weights_kept_in_memory_are_brought_for_each_call() -> None:
    network, batch = SmallNetwork().eval(), images()
    offloaded = tool("accelerate").cpu_offload(copy.deepcopy(network), execution_device=CPU)
    assert all(parameter.is_meta for parameter in offloaded.parameters())
    assert_close(offloaded(batch), written_out(network, batch.shape[2:], projected(network, batch)))
    assert all(parameter.is_meta for parameter in offloaded.parameters())


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_network_kept_elsewhere_gives_the_same_bits(where: str, tmp_path: Path) -> None:
    network, batch = small_resnet().eval(), images(size=IMAGE_SIZE)
    expected = by_calls(network)(batch)
    accelerate = tool("accelerate")
    if where == "memory":
        offloaded = accelerate.cpu_offload(network, execution_device=CPU)
    else:
        offloaded = accelerate.disk_offload(network, str(tmp_path), execution_device=CPU)
    assert_equal(offloaded(batch), expected)


TOKEN_LAYERS: dict[str, dict[str, Any]] = {
    "local": {"scope_size": 5},
    "global": {"scope_size": None, "feature_size": 7},
    "dense": {"position": "dense", "feature_size": 7},
    "without positions": {"position": "none"},
    "causal": {"causal": True, "normalization": "layer", "scope_size": 5},
}


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("options", TOKEN_LAYERS.values(), ids=TOKEN_LAYERS)
def test_layers_of_tokens_call_their_positions_too(options: dict[str, Any], with_mask: bool) -> None:
    """A table that is read while its numbers are elsewhere gave numbers of no meaning, without an error."""
    layer, tokens = LambdaLayer(8, **options).double().eval(), torch.randn(2, 7, 8, dtype=torch.float64)
    mask = torch.rand(7, 7) > 0.3 if with_mask else None
    expected = layer(tokens, mask=mask)
    offloaded = tool("accelerate").cpu_offload(layer, execution_device=CPU)
    assert all(parameter.is_meta for parameter in offloaded.parameters())
    assert_close(offloaded(tokens, mask=mask), expected)


def test_a_forward_in_the_place_of_a_child_s_own_is_run() -> None:
    """What accelerate's hooks do to one child: a hook that halves what comes in."""
    network, batch = SmallNetwork().eval(), images()
    weights = {"to_values": network.mixer.to_values.weight.detach() / 2}
    expected = written_out(network, batch.shape[2:], projected(network, batch, weights))

    hooks = tool("accelerate.hooks")

    class Halve(hooks.ModelHook):
        def pre_forward(self, module: nn.Module, *inputs: Any, **options: Any) -> Any:
            return tuple(one / 2 for one in inputs), options

    hooks.add_hook_to_module(network.mixer.to_values, Halve())
    assert_close(network(batch), expected)
    hooks.remove_hook_from_module(network.mixer.to_values)
    assert_close(network(batch), written_out(network, batch.shape[2:], projected(network, batch)))
