"""What the loop costs beside a bare one, what a checkpoint takes, and what parts of a batch save.

    python benchmarks/training.py [--repeats 7] [--threads 2] [--steps 12] [--out FILE]

Both loops make the same updates of the same network on the same batches (SGD with Nesterov momentum, label
smoothing, moving average; torch's own `AveragedModel` in the bare one), in turns.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from resident import extra_bytes, fresh
from timing import Result, interleaved, write_result
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lambdanets.batches import Batch
from lambdanets.models import create_model, parameter_groups
from lambdanets.recipes import get_recipe
from lambdanets.training.checkpoint import save_checkpoint
from lambdanets.training.distributed import World
from lambdanets.training.parallel import new_state
from lambdanets.training.settings import ExecConfig
from lambdanets.training.step import Stepper

# A network, the side of its pictures, and how many of them.
CASES = {
    "lambda_resnet_digits": (8, 1, 64),
    "resnet50_llll": (64, 3, 8),
    "resnet50": (64, 3, 16),
}


def batches(size: int, channels: int, batch: int, steps: int) -> list[Batch]:
    """Random pictures, the same ones for both loops."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, batch, channels, size, size, generator=generator)
    return [Batch(draw(), torch.randint(10, (batch,), generator=generator)) for _ in range(steps)]


def ours(name: str, given: list[Batch]) -> None:
    """Updates by `Stepper`, as the loop makes them."""
    config = get_recipe("digits")
    model = create_model(name, num_classes=10, in_channels=given[0].images.shape[1])
    groups = partial(parameter_groups, weight_decay=config.optim.weight_decay)
    state = new_state(model, config, World(), groups)
    stepper = Stepper(config=config, world=World(), prepare=lambda images: images)
    state.called.train()
    for batch in given:
        stepper.step(state, batch, len(batch.images), 0.1, (0.0, 0.0, 0.0, 1.0))
        state.step += 1


def bare(name: str, given: list[Batch]) -> None:
    """Updates by the usual five lines."""
    config = get_recipe("digits")
    model = create_model(name, num_classes=10, in_channels=given[0].images.shape[1]).train()
    groups = parameter_groups(model, config.optim.weight_decay)
    optimizer = SGD(groups, lr=0.1, momentum=config.optim.momentum, nesterov=True)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    for images, labels, _ in given:
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(model(images), labels, label_smoothing=config.label_smoothing)
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        loss.item()


def overhead(name: str, steps: int, repeats: int) -> Result:
    """Milliseconds of a step in either loop; making the network is subtracted."""
    size, channels, batch = CASES[name]
    given = batches(size, channels, batch, steps)
    calls = {
        "ours": partial(ours, name, given),
        "bare": partial(bare, name, given),
        "ours, one step": partial(ours, name, given[:1]),
        "bare, one step": partial(bare, name, given[:1]),
    }
    times = interleaved(calls, repeats)
    step = {
        loop: (times[loop]["median_ms"] - times[f"{loop}, one step"]["median_ms"]) / (steps - 1)
        for loop in ("ours", "bare")
    }
    return {
        "model": name,
        "batch": batch,
        "step_ms": step,
        "ratio": step["ours"] / step["bare"],
        "times": times,
    }


def checkpoint(name: str, repeats: int) -> Result:
    """Seconds of a save, and their share of ten minutes."""
    config = get_recipe("digits")
    state = new_state(create_model(name), config, World(), partial(parameter_groups, weight_decay=0.0))
    given = batches(64, 3, 2, 1)[0]
    Stepper(config=config, world=World(), prepare=lambda images: images).step(state, given, 2, 0.1)
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


def accumulated(batch: int, parts: int) -> int:
    """Extra bytes at the peak of a step of `batch` pictures in parts, in this process."""
    torch.set_num_threads(1)
    config = replace(get_recipe("digits"), exec=ExecConfig(device="cpu", accumulation=parts))
    state = new_state(
        create_model("resnet50_llll", num_classes=10),
        config,
        World(),
        partial(parameter_groups, weight_decay=0.0),
    )
    stepper = Stepper(config=config, world=World(), prepare=lambda images: images)
    small, whole = batches(64, 3, 2, 1)[0], batches(64, 3, batch, 1)[0]
    # The first step makes gradients and momentum, which stay.
    warm = partial(stepper.step, state, small, 2, 0.1)
    return extra_bytes(warm, partial(stepper.step, state, whole, batch, 0.1))


def main() -> None:
    """Measure all three, print and write."""
    parser = argparse.ArgumentParser(prog="training.py")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loops = [overhead(name, arguments.steps, arguments.repeats) for name in CASES]
    for one in loops:
        step = one["step_ms"]
        print(
            f"{one['model']:<22} step {step['ours']:8.1f} ms, bare {step['bare']:8.1f} ms  {one['ratio']:.3f}"
        )
    saved = checkpoint("resnet50_llll", arguments.repeats)
    print(
        f"checkpoint of {saved['bytes'] / 1e6:.0f} MB: {saved['median_s']:.2f} s,"
        f" {saved['share_of_10_min']:.2%} of ten minutes"
    )
    parts = {
        f"{batch} in {number}": fresh(accumulated, batch, number)
        for batch, number in ((8, 1), (32, 4), (32, 1))
    }
    for name, size in parts.items():
        print(f"pictures and parts: {name:<8} {size / 1e6:8.1f} MB beside the network")
    if arguments.out:
        content = {"loops": loops, "checkpoint": saved, "accumulation_extra_bytes": parts}
        write_result(arguments.out, "training.py", content)


if __name__ == "__main__":
    main()
