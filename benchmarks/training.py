"""What the loop costs beside a bare one, what a checkpoint takes, and what parts of a batch save.

    python benchmarks/training.py [--repeats 7] [--threads 2] [--steps 12] [--out FILE]

Both loops make the same updates of the same network on the same batches (SGD with Nesterov momentum, label
smoothing, moving average), in turns. The bare one does nothing else, and averages all tensors in one call,
which takes less time than torch's `AveragedModel`.
"""

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from harness import Result, ResultFile, command_line, extra_bytes, fresh, race
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from lambdanets.data.task import Batch
from lambdanets.models import create_model, parameter_groups
from lambdanets.recipes import get_recipe
from lambdanets.training.checkpoint import save_checkpoint
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import DistributedContext
from lambdanets.training.objective import Classification
from lambdanets.training.optimizer import gradient_norm, set_learning_rate
from lambdanets.training.state import init_train_state
from lambdanets.training.step import train_step

# A network, the side of its images, and how many of them.
CASES = {
    "lambda_resnet_digits": (8, 1, 64),
    "resnet50_llll": (64, 3, 8),
    "resnet50": (64, 3, 16),
}


def batches(size: int, channels: int, batch: int, steps: int) -> list[Batch]:
    """Random images, the same ones for both loops."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, batch, channels, size, size, generator=generator)
    return [Batch(draw(), torch.randint(10, (batch,), generator=generator)) for _ in range(steps)]


# Makes an update of each batch.
Updates = Callable[[list[Batch]], None]

# Small, so that nothing overflows however often the batches are repeated.
RATE = 1e-3
CLASSES = Classification(num_classes=10, label_smoothing=get_recipe("digits").label_smoothing)


def ours(name: str, channels: int, parts: int = 1) -> Updates:
    """Updates by `train_step`, as the loop makes them."""
    config = replace(get_recipe("digits"), exec=ExecConfig(device="cpu", accumulation=parts))
    model = create_model(name, num_classes=10, in_channels=channels)
    groups = partial(parameter_groups, weight_decay=config.optim.weight_decay)
    state = init_train_state(model, config, DistributedContext(), groups)
    state.ddp_model.train()

    def update(given: list[Batch]) -> None:
        for batch in given:
            set_learning_rate(state.optimizer, RATE)
            flags = (0.0, 0.0, 0.0, 1.0)
            nonfinite, _ = train_step(
                state, batch, len(batch.images), config=config, objective=CLASSES, flags=flags
            )
            assert nonfinite is None, nonfinite
            state.step += 1

    return update


def bare(name: str, channels: int, parts: int = 1) -> Updates:
    """Updates by the usual lines."""
    config = get_recipe("digits")
    model = create_model(name, num_classes=10, in_channels=channels).train()
    groups = parameter_groups(model, config.optim.weight_decay)
    optimizer = SGD(groups, lr=RATE, momentum=config.optim.momentum, nesterov=True)
    average = copy.deepcopy(model)

    def update(given: list[Batch]) -> None:
        for images, labels, _ in given:
            optimizer.zero_grad(set_to_none=True)
            for part, classes in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                loss = cross_entropy(model(part), classes, label_smoothing=config.label_smoothing)
                (loss / parts).backward()
            optimizer.step()
            torch._foreach_lerp_(tensors(average), tensors(model), 1 - config.ema_decay)
            loss.item()

    return update


def tensors(model: nn.Module) -> list[Tensor]:
    """What an average covers."""
    return [one.detach() for one in (*model.parameters(), *model.buffers()) if one.is_floating_point()]


LOOPS = {"ours": ours, "bare": bare}


def overhead(name: str, steps: int, repeats: int) -> Result:
    """Milliseconds of a step in either loop."""
    size, channels, batch = CASES[name]
    given = batches(size, channels, batch, steps)
    calls = {loop: partial(make(name, channels), given) for loop, make in LOOPS.items()}
    times = race(calls, repeats)
    step = {loop: times[loop]["median_ms"] / steps for loop in LOOPS}
    return {
        "model": name,
        "batch": batch,
        "step_ms": step,
        "ratio": step["ours"] / step["bare"],
        "norm_ms": norm_ms(name, channels, repeats),
        "times": times,
    }


def norm_ms(name: str, channels: int, repeats: int) -> float:
    """Milliseconds of the gradient's norm, the largest part of what ours does more, alone."""
    model = create_model(name, num_classes=10, in_channels=channels)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return race({"norm": partial(gradient_norm, model)}, repeats)["norm"]["median_ms"]


def checkpoint(name: str, repeats: int) -> Result:
    """Seconds of a save, and their share of ten minutes."""
    config = get_recipe("digits")
    state = init_train_state(
        create_model(name), config, DistributedContext(), partial(parameter_groups, weight_decay=0.0)
    )
    given = batches(64, 3, 2, 1)[0]
    train_step(state, given, 2, config=config, objective=CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        took = []
        for step in range(repeats):
            start = time.perf_counter()
            path = save_checkpoint(Path(folder), step, state.tensors(), state.record(config), keep=2)
            took.append(time.perf_counter() - start)
        size = sum(file.stat().st_size for file in path.iterdir())
    median = sorted(took)[len(took) // 2]
    return {
        "model": name,
        "bytes": size,
        "median_s": median,
        "max_s": max(took),
        "share_of_10_min": median / 600,
    }


def accumulated(loop: str, batch: int, parts: int) -> int:
    """Extra bytes at the peak of a step of `batch` images in parts, in this process."""
    torch.set_num_threads(1)
    update = LOOPS[loop]("resnet50_llll", 3, parts)
    # The first step makes momentum, which stays.
    warm = partial(update, batches(64, 3, 2 * parts, 1))
    return extra_bytes(warm, partial(update, batches(64, 3, batch, 1)))


def main() -> None:
    """Measure all three, print and write."""
    arguments = command_line(__doc__, repeats=7, steps=12).parse_args()
    torch.set_num_threads(arguments.threads)
    file = ResultFile(arguments.out)
    loops = [overhead(name, arguments.steps, arguments.repeats) for name in CASES]
    for one in loops:
        step = one["step_ms"]
        print(
            f"{one['model']:<22} step {step['ours']:8.1f} ms, bare {step['bare']:8.1f} ms  {one['ratio']:.3f}"
            f", norm alone {one['norm_ms'] / step['bare']:.1%} of it"
        )
    file.add(loops=loops)
    saved = checkpoint("resnet50_llll", arguments.repeats)
    print(
        f"checkpoint of {saved['bytes'] / 1e6:.0f} MB: {saved['median_s']:.2f} s,"
        f" {saved['share_of_10_min']:.2%} of ten minutes"
    )
    parts = {
        loop: {
            f"{batch} in {number}": fresh(accumulated, loop, batch, number)
            for batch, number in ((8, 1), (32, 4), (64, 8), (32, 1))
        }
        for loop in LOOPS
    }
    for loop, sizes in parts.items():
        shown = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
        print(f"images and parts, {loop}: {shown} beside the network")
    file.add(checkpoint=saved, accumulation_extra_bytes=parts)


if __name__ == "__main__":
    main()
