"""Training on a GPU: a recipe end to end, stability in low precision, and resuming bit for bit.

    python benchmarks/gpu_training.py [--images 20000] [--batch 256] [--steps 1000] [--workers 14]
        [--only recipe,stability,resume] [--rehearse] [--out FILE]

recipe: `imagenet-lambda-resnet50-160` on JPEG files of ImageNet's size, against the same steps on images
that are there already: whether the time goes to reading or computing, and how busy the GPU is.
stability: an all-lambda ResNet-50 at the paper's initialisation in float32, bfloat16 and float16 on a set
that can be learnt: losses, what is not finite, halvings of the scale.
resume: six steps against three and three, with deterministic kernels.
`--rehearse` runs all of it on a CPU with sizes that mean nothing.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from harness import Result, ResultFile
from jpegs import write_folder

from lambdanets.data.task import Batch
from lambdanets.models import create_model, parameter_groups
from lambdanets.recipes import get_recipe
from lambdanets.runs.tasks import load_task, make_job
from lambdanets.runs.train import first_state, make_trainer
from lambdanets.training.checkpoint import load_checkpoint, save_checkpoint
from lambdanets.training.config import ExecConfig, TrainConfig
from lambdanets.training.distributed import DistributedContext, init_distributed
from lambdanets.training.loader import load_batches
from lambdanets.training.objective import Classification
from lambdanets.training.optimizer import set_learning_rate
from lambdanets.training.state import TrainState, init_train_state
from lambdanets.training.step import train_step

PHASES = ("recipe", "stability", "resume")


def recipe(arguments: argparse.Namespace, ctx: DistributedContext) -> Result:
    """Images a second of a recipe's steps: images from files, and the first batch again and again."""
    config = _from_files(arguments, ctx)
    task = load_task(config)
    job = make_job(config, task)
    trainer = make_trainer(config, job, ctx)
    state = first_state(config, job, ctx)
    step = partial(train_step, config=config, ctx=ctx, prepare=trainer.prepare, mix=trainer.mix)
    state.ddp_model.train()
    calls = [(0, part) for part in trainer.batches(0)]
    read = load_batches(task.train, calls, config.exec.num_workers)
    first = next(read)
    _steps(state, step, iter([first] * 3), ctx)
    _forget_peak(ctx)
    with busy(ctx) as shares:
        from_files = _steps(state, step, read, ctx)
    return {
        "model": config.model.name,
        "batch": config.global_batch_size,
        "from_files_images_per_s": from_files,
        "present_images_per_s": _steps(state, step, iter([first] * len(calls)), ctx),
        "reading_images_per_s": _reading(task.train, calls, config.exec.num_workers),
        "gpu_busy_percent": statistics.mean(shares) if shares else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if ctx.device.type == "cuda" else None,
        "loss": state.meter.loss_sum / state.meter.count,
    }


def _from_files(arguments: argparse.Namespace, ctx: DistributedContext) -> TrainConfig:
    config = get_recipe("imagenet-lambda-resnet50-160")
    return replace(
        config,
        global_batch_size=arguments.batch,
        data=replace(config.data, root=str(arguments.folder), holdout=0.02, image_size=arguments.size),
        exec=replace(config.exec, num_workers=arguments.workers, device=ctx.device.type),
    )


def _steps(state: TrainState, step: Callable, batches: Iterator[Batch], ctx: DistributedContext) -> float:
    """Images a second of updates on batches as they come."""
    images, start = 0, time.perf_counter()
    for batch in batches:
        set_learning_rate(state.optimizer, 0.01)
        step(state, batch, len(batch.images))
        state.step += 1
        images += len(batch.images)
    if ctx.device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def _reading(data: object, calls: list, workers: int) -> float:
    images, start = 0, time.perf_counter()
    for batch in load_batches(data, calls, workers):
        images += len(batch.images)
    return images / (time.perf_counter() - start)


@contextmanager
def busy(ctx: DistributedContext) -> Iterator[list[int]]:
    """Percent of the time in which the GPU computes, twice a second; none on a CPU."""
    shares: list[int] = []
    if ctx.device.type != "cuda":
        yield shares
        return
    words = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=500"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watch:
        try:
            yield shares
        finally:
            watch.terminate()
            shares += [int(line) for line in watch.communicate()[0].split()]


def _forget_peak(ctx: DistributedContext) -> None:
    if ctx.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def stability(arguments: argparse.Namespace, ctx: DistributedContext) -> list[Result]:
    """The loss of each precision over the steps, on images whose class is one of their frequencies."""
    results = []
    for precision in ("float32", "bfloat16", "float16"):
        config = replace(
            get_recipe("imagenet-lambda-resnet50-90ep"),
            exec=ExecConfig(device=ctx.device.type, precision=precision, channels_last=True),
        )
        torch.manual_seed(0)
        model = create_model("resnet50_llll", num_classes=10, image_size=arguments.size)
        state = init_train_state(model, config, ctx, partial(parameter_groups, weight_decay=1e-4))
        classes = Classification(num_classes=10)
        losses, faults = [], []
        for step in range(arguments.steps):
            before = state.meter.loss_sum
            rate = 0.1 * arguments.batch / 256 * min(1, (step + 1) / 100)
            set_learning_rate(state.optimizer, rate)
            batch = _waves(step, arguments, ctx)
            nonfinite, _ = train_step(
                state, batch, arguments.batch, config=config, objective=classes, ctx=ctx
            )
            if nonfinite:
                faults.append({"step": step, "fault": nonfinite})
            losses.append((state.meter.loss_sum - before) / arguments.batch)
            state.step += 1
        results.append(
            {
                "precision": precision,
                "losses": [round(statistics.mean(losses[i : i + 10]), 4) for i in range(0, len(losses), 10)],
                "faults": faults,
                "scaler_passed_over": state.step - len(faults) - state.ema.num_updates,
            }
        )
    return results


def _waves(step: int, arguments: argparse.Namespace, ctx: DistributedContext) -> Batch:
    """Noise with a wave on it: the class is how many periods there are."""
    device = ctx.device
    generator = torch.Generator(device).manual_seed(step)
    labels = torch.randint(10, (arguments.batch,), generator=generator, device=device)
    places = torch.linspace(0, 2 * torch.pi, arguments.size, device=device)
    waves = torch.sin(places * (labels[:, None] + 1))[:, None, None, :]
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    return Batch(waves + 0.5 * torch.randn(shape, generator=generator, device=device), labels)


def resume(arguments: argparse.Namespace, ctx: DistributedContext) -> Result:
    """How many tensors differ between a straight run of six steps and one that was stored after three."""
    exec_config = ExecConfig(device=ctx.device.type, deterministic=True, precision="auto")
    config = replace(get_recipe("digits"), exec=exec_config)

    def fresh(seed: int) -> TrainState:
        torch.manual_seed(seed)
        model = create_model("resnet50_llll", num_classes=10, image_size=arguments.size)
        return init_train_state(model, config, ctx, partial(parameter_groups, weight_decay=1e-4))

    step = partial(train_step, config=config, ctx=ctx)
    straight, stored, continued = fresh(0), fresh(0), fresh(1)
    _steps(straight, step, (_waves(i, arguments, ctx) for i in range(6)), ctx)
    _steps(stored, step, (_waves(i, arguments, ctx) for i in range(3)), ctx)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), 3, stored.tensors(), stored.record(config), keep=1)
        checkpoint = load_checkpoint(Path(folder))
        assert checkpoint is not None
        continued.restore(checkpoint, config)
    _steps(continued, step, (_waves(i, arguments, ctx) for i in range(3, 6)), ctx)
    pairs = [
        (f"{group}/{name}", tensor, continued.tensors()[group][name])
        for group, tensors in straight.tensors().items()
        for name, tensor in tensors.items()
    ]
    differ = [name for name, one, other in pairs if not torch.equal(one, other)]
    return {"tensors": len(pairs), "differ": len(differ), "first": differ[:5]}


def main() -> None:
    """Run the phases, print and write."""
    parser = argparse.ArgumentParser(prog="gpu_training.py")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lambdanets-jpegs")
    parser.add_argument("--only", type=lambda text: text.split(","), default=PHASES)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.rehearse:
        vars(arguments).update(images=60, batch=8, size=32, steps=3, workers=1)
    file = ResultFile(arguments.out)
    phases = {"recipe": recipe, "stability": stability, "resume": resume}
    with init_distributed(ExecConfig(device="cpu" if arguments.rehearse else "cuda")) as ctx:
        if "recipe" in arguments.only:
            write_folder(arguments.folder, arguments.images)
        for name in arguments.only:
            result = phases[name](arguments, ctx)
            print(name, result, flush=True)
            file.add(**{name: result})


if __name__ == "__main__":
    main()
