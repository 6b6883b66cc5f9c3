"""Whose affair the type of the inputs is: that of plain layers ours, that of all others their own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lambdanets.errors import ArgumentTypeError
from lambdanets.models import create_model
from lambdanets.nn import (
    AxialAttention2d,
    GlobalAttention2d,
    LambdaLayer,
    LambdaLayer2d,
    LinearAttention2d,
    LocalAttention2d,
    SqueezeExcitation,
)
from support.compare import assert_equal


class Casting(nn.Module):
    """A layer that takes any type, as adapters and quantised layers do."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight, self.layer = layer.weight, layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.to(self.weight.dtype)).to(inputs.dtype)


def wrap(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d | nn.Linear):
            setattr(module, name, Casting(child))
        else:
            wrap(child)


def hook(module: nn.Module) -> None:
    """As layers whose weights are cast for the time of the call."""

    def cast(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        layer.to_the_outside = inputs[0].dtype
        return (inputs[0].to(layer.weight.dtype),)

    def cast_back(layer: nn.Module, _: object, output: Tensor) -> Tensor:
        return output.to(layer.to_the_outside)

    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_pre_hook(cast)
            part.register_forward_hook(cast_back)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lambda layer": lambda: LambdaLayer2d(8, num_heads=2, scope_size=3, normalization="none"),
    "tokens": lambda: LambdaLayer(8, num_heads=2, scope_size=3, normalization="none"),
    "global": lambda: GlobalAttention2d(8, num_heads=2),
    "axial": lambda: AxialAttention2d(8, num_heads=2, feature_size=(4, 3)),
    "linear": lambda: LinearAttention2d(8, num_heads=2),
    "local": lambda: LocalAttention2d(8, num_heads=2, window_size=3),
    "squeeze": lambda: SqueezeExcitation(8, 2),
}


@pytest.mark.parametrize("attach", [wrap, hook])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.usefixtures("unchecked")
def test_layers_that_cast_their_inputs_take_any_type(layer: str, attach: Callable[[nn.Module], None]) -> None:
    inputs = torch.randn(2, 5, 8) if layer == "tokens" else torch.randn(2, 8, 4, 3)
    torch.manual_seed(0)
    module = LAYERS[layer]()
    expected = module(inputs)
    # Positions and tables are read by the layer itself: they are of the type of the maps.
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.double()
    with pytest.raises(ArgumentTypeError, match=r"must be torch.float64 as the weights, got torch\.float32"):
        module(inputs)
    attach(module)
    output = module(inputs)
    assert output.dtype == torch.float32
    assert (output - expected).abs().max() < 1e-4
    # Integers are nothing that a projection gives a layer's formula back as.
    with pytest.raises(ArgumentTypeError, match="inputs must be a tensor of float16"):
        module(inputs.to(torch.uint8))


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2"])
@pytest.mark.usefixtures("unchecked")
def test_the_stem_of_a_network_may_be_anything(name: str) -> None:
    model = create_model(name, num_classes=3).eval()
    images = torch.randn(1, 3, 32, 32)
    expected = model(images)
    convolution = model.stem[0].double()
    with pytest.raises(ArgumentTypeError, match=r"images must be torch\.float64 as the weights"):
        model(images)
    model.stem[0] = Casting(convolution)
    assert (model(images) - expected).abs().max() < 1e-4
    model.stem = nn.Conv2d(3, convolution.out_channels, 3, stride=4, padding=1)
    assert_equal(model(images), model(images))
    with pytest.raises(ArgumentTypeError, match=r"images must be torch\.float32 as the weights"):
        model(images.half())
