"""What the layers of a network start from."""

from torch import nn

from lambdanets.nn.lambda_layer import LambdaLayer2d


def initialize_layers(model: nn.Module) -> None:
    """He initialisation for convolutions, 0.01 for linear layers; lambda layers keep their own."""
    own = {
        id(part) for layer in model.modules() if isinstance(layer, LambdaLayer2d) for part in layer.modules()
    }
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and id(module) not in own:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
