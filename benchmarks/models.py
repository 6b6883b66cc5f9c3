"""Time and peak memory of a training step of the all-lambda ResNet-50 beside ResNet-50's.

    python benchmarks/models.py [--batch 8] [--side 224] [--repeats 3] [--threads 2] [--out FILE]

Prints for each model the median milliseconds of a step (the loss, all gradients, the update), and its peak
resident memory less what was resident right before the step, in a process of its own (Linux), in MB.
"""

from functools import partial

import torch
from harness import ResultFile, command_line, extra_bytes, fresh, race, show_time
from torch import Tensor, nn

from lambdanets import create_model

MODELS = ("resnet50", "resnet50_llll")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """One update."""
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def prepare(name: str, batch: int, side: int) -> partial[None]:
    """A training step of a new model."""
    model = create_model(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return partial(step, model, optimizer, torch.randn(batch, 3, side, side), torch.randint(1000, (batch,)))


def step_bytes(name: str, batch: int, side: int, threads: int) -> int:
    """Extra bytes of a model's first step, in this process: gradients and momentum are among them."""
    torch.set_num_threads(threads)
    call = prepare(name, batch, side)
    return extra_bytes(prepare(name, 2, 32), call)


def main() -> None:
    """Times of both models in one process, in turns; memory of each in its own."""
    arguments = command_line(__doc__, batch=8, side=224, repeats=3).parse_args()
    torch.set_num_threads(arguments.threads)
    file, sizes = ResultFile(arguments.out), (arguments.batch, arguments.side)
    extra = {name: fresh(step_bytes, name, *sizes, arguments.threads) for name in MODELS}
    times = race({name: prepare(name, *sizes) for name in MODELS}, arguments.repeats)
    for name, row in times.items():
        ratio = row["median_ms"] / times[MODELS[0]]["median_ms"]
        memory = f"{extra[name] / 1e6:8.0f} MB  {extra[name] / extra[MODELS[0]]:.2f}x"
        print(f"{name:<16}{show_time(row)} {ratio:.2f}x  {memory}")
    settings = {"batch": arguments.batch, "side": arguments.side, "threads": arguments.threads}
    file.add(results=[settings | {"train_step": times, "extra_bytes": extra}])


if __name__ == "__main__":
    main()
