"""Time and peak memory of a training step of the all-lambda ResNet-50 beside ResNet-50's.

    python benchmarks/models.py [--batch 8] [--repeats 3] [--threads 2] [--out FILE]

Prints for each model the median milliseconds of a step (the loss, all gradients, the update), and its peak
resident memory less what was resident right before the step, in a process of its own (Linux), in MB.
"""

from functools import partial

import torch
from resident import extra_bytes, fresh
from timing import interleaved, options, write
from torch import Tensor, nn

from lambdanets import create_model

MODELS = ("resnet50", "resnet50_llll")


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """One update."""
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


def prepare(name: str, batch: int, side: int = 224) -> partial[None]:
    """A training step of a new model."""
    model = create_model(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return partial(step, model, optimizer, torch.randn(batch, 3, side, side), torch.randint(1000, (batch,)))


def step_bytes(name: str, batch: int, threads: int) -> int:
    """Extra bytes of a model's first step, in this process: gradients and momentum are among them."""
    torch.set_num_threads(threads)
    call = prepare(name, batch)
    return extra_bytes(prepare(name, 2, 32), call)


def main() -> None:
    """Times of both models in one process, in turns; memory of each in its own."""
    arguments = options("benchmarks/models.py")
    sizes = {name: fresh(step_bytes, name, arguments.batch, arguments.threads) for name in MODELS}
    times = interleaved({name: prepare(name, arguments.batch) for name in MODELS}, arguments.repeats)
    base_time, base_size = times[MODELS[0]]["median_ms"], sizes[MODELS[0]]
    for name, row in times.items():
        spread = f"({row['min_ms']:.0f} to {row['max_ms']:.0f}, {row['repeats']}x)"
        print(
            f"{name:<16}{row['median_ms']:8.0f} ms {spread:<24} {row['median_ms'] / base_time:.2f}x"
            f"  {sizes[name] / 1e6:8.0f} MB  {sizes[name] / base_size:.2f}x"
        )
    result = {"batch": arguments.batch, "threads": arguments.threads}
    write("benchmarks/models.py", arguments, [result | {"train_step": times, "extra_bytes": sizes}])


if __name__ == "__main__":
    main()
