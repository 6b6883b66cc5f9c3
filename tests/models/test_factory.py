"""What is made of a model's name: a network of shapes alone, compiled code, and groups of parameters."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lambdanets.models import create_model, on_meta, parameter_groups
from lambdanets.nn import LambdaLayer, LambdaLayer2d


class Called(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["lambda_resnet_digits", "lambda_mobilenet_small"])
def test_shapes_are_those_of_the_network_and_nothing_is_drawn(name):
    real = create_model(name).state_dict()
    with Called() as called, on_meta():
        shapes = create_model(name).state_dict()
    assert {name: tensor.shape for name, tensor in shapes.items()} == {
        name: tensor.shape for name, tensor in real.items()
    }
    assert all(tensor.is_meta for tensor in shapes.values())
    assert not called.names & {"aten::normal_", "aten::uniform_"}


def test_numbers_are_drawn_again_afterwards():
    with on_meta():
        create_model("lambda_resnet_digits")
    assert torch.empty(8).normal_().std() > 0


@pytest.mark.parametrize("decay_position", [True, False])
def test_groups_partition_the_parameters(decay_position: bool) -> None:
    model = create_model(
        "lambda_resnet_digits", squeeze_excitation=("c2",), layers="CCLL", share_position="stage"
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, undecayed = parameter_groups(model, 1e-4, decay_position=decay_position)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (1e-4, 0.0)
    parameters = [id(parameter) for group in (decayed, undecayed) for parameter in group["params"]]
    assert sorted(parameters) == sorted(names)
    for parameter in undecayed["params"]:
        name = names[id(parameter)]
        assert "norm" in name or name.endswith("bias") or parameter.ndim == 1 or "table" in name
    tables = [names[id(one)] for one in undecayed["params"] if "table" in names[id(one)]]
    assert bool(tables) is not decay_position


def test_bias_of_a_position_and_scales_of_other_layers_are_not_decayed() -> None:
    for layer in (LambdaLayer2d(8, position_bias=True), LambdaLayer(8, normalization="layer")):
        decayed, _ = parameter_groups(layer, 1.0)
        weights = {id(module.weight) for module in (layer.to_queries, layer.to_keys, layer.to_values)}
        assert {id(one) for one in decayed["params"]} == weights | {id(layer.position.table)}


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", ["lambda_resnet_small", "lambda_mobilenet_small"])
def test_compiles_without_graph_breaks(name: str, backend: str) -> None:
    model, images = create_model(name).eval(), torch.randn(2, 3, 32, 32)
    expected = model(images)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    assert (compiled(images) - expected).abs().max() < 1e-4 * expected.abs().max()
