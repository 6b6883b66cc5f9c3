"""What the layers of a network start from."""

from collections.abc import Iterable

from torch import nn


def initialize_layers(model: nn.Module, own: Iterable[nn.Module] = ()) -> None:
    """He initialisation for convolutions, 0.01 for linear layers; the modules of `own` keep theirs."""
    kept = {id(part) for layer in own for part in layer.modules()}
    for module in model.modules():
        if id(module) in kept:
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
