"""Replace the 3x3 convolutions of the last stage of a network by lambda layers, and train a step.

python examples/drop_in.py
"""

import torch
from torch import nn

from lambdanets import LambdaLayer2d


def convolution_network() -> nn.Sequential:
    """Any network of yours."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def main() -> None:
    """The same stride, the same channels, another way to look at the map."""
    model = convolution_network()
    old = model[3]
    model[3] = LambdaLayer2d(old.in_channels, old.out_channels, stride=old.stride[0], scope_size=7)
    images, labels = torch.randn(8, 3, 50, 38), torch.randint(10, (8,))
    loss = nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    print(f"loss {loss.item():.3f}, gradient of the table {model[3].position.table.grad.norm():.3f}")


if __name__ == "__main__":
    main()
