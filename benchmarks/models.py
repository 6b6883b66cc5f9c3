"""A training step of the all-lambda ResNet-50 beside ResNet-50's.

python benchmarks/models.py [--batch 8] [--repeats 3] [--threads 2] [--out FILE]
"""

from functools import partial

import torch
from timing import interleaved, options, write
from torch import nn

from lambdanets import create_model

MODELS = ("resnet50", "resnet50_llll")


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    """One update."""
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def main() -> None:
    """Both models in one process, in turns."""
    arguments = options("benchmarks/models.py")
    images = torch.randn(arguments.batch, 3, 224, 224)
    labels = torch.randint(1000, (arguments.batch,))
    calls = {}
    for name in MODELS:
        model = create_model(name)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        calls[name] = partial(step, model, optimizer, images, labels)
    times = interleaved(calls, arguments.repeats)
    base = times[MODELS[0]]["median_ms"]
    for name, row in times.items():
        print(f"{name:<16}{row['median_ms']:8.0f} ms  {row['median_ms'] / base:.2f}x")
    write("benchmarks/models.py", arguments, [{"batch": arguments.batch, "train_step": times}])


if __name__ == "__main__":
    main()
