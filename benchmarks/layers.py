"""Race the whole layer against `lambda-networks`, `timm` and plain PyTorch, eager and compiled.

    pip install lambda-networks timm
    python benchmarks/layers.py [--batch 1 8 32] [--threads 1 2] [--dtype float32 bfloat16]
        [--shapes PART ...] [--compile NAME ...] [--repeats 7] [--full] [--out FILE]

All contestants have the same weights, and their outputs, in training and in inference, are compared with
ours in float32 before anything is timed; times are taken in turns in one process. By default every shape
runs at the main setting (8 images, 2 threads, float32; fewer images at a global context on large maps), and
two stages of a ResNet-50 at each other batch, number of threads and precision, one changed at a time;
compiled contestants run at the main setting, at the four stages at r=23. `--full` runs all combinations and
compiles at all of them, which takes hours; contestants whose step is estimated to take more than 5 s
run there only. With one value of each option that is the main setting.
`bfloat16` is pure: weights, activations and images. A slow contestant is timed less often, three times at
least.

Prints, for each setting and contestant, the median of a training step (the output and all gradients) and
of inference in milliseconds, with the smallest, the largest and how many, their ratio to ours, and the MB
kept for backward; for one left out "not run" and why. At the end the geometric means of the ratios over the
four stages at r=23.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import torch
from peers import (
    CONTESTANTS,
    CONVOLUTION,
    OWN,
    PAIRS,
    Contestant,
    compiled,
    draw,
    draw_images,
    infer,
    line_up,
    train,
)
from problems import LAYER_SHAPES, STAGE_SHAPES, Shape, largest_batch
from timing import Result, interleaved, write_result
from torch import Tensor, nn
from work import LONGEST_SECONDS

# Seconds of one contestant's repeats, in training and in inference each.
SECONDS: Final = 3.0
MAIN_BATCH: Final = 8
# What runs at every other setting too.
ELSEWHERE: Final = (Shape(28, 128, 23), Shape(7, 512, 23))
# A step estimated to take longer is left to --full.
LONGEST_BY_DEFAULT: Final = 5.0
# Relative error of an output against ours in float32.
TOLERANCE: Final = {"float32": 1e-4, "bfloat16": 5e-2}


class Setting(NamedTuple):
    """One line of the race."""

    shape: Shape
    batch: int
    threads: int
    dtype: str

    @property
    def name(self) -> str:
        """Such as 28x28-d128-r23  b=8  2 threads  float32."""
        return f"{self.shape.name:<19} b={self.batch:<3} {self.threads} threads  {self.dtype}"


def settings(arguments: argparse.Namespace) -> Iterator[Setting]:
    """What is asked for: every shape at the main setting, two of them elsewhere; or all."""
    shapes = [one for one in LAYER_SHAPES if any(part in one.name for part in arguments.shapes)]
    main = main_setting(arguments)
    for values in itertools.product(arguments.batch, arguments.threads, arguments.dtype):
        changed = sum(one != other for one, other in zip(values, main, strict=True))
        for shape in shapes:
            batch, threads, dtype = values
            if arguments.full:
                yield Setting(shape, batch, threads, dtype)
            elif changed == 0:
                yield Setting(shape, largest_batch(shape, batch), threads, dtype)
            elif changed == 1 and shape in ELSEWHERE:
                yield Setting(shape, batch, threads, dtype)


def main_setting(arguments: argparse.Namespace) -> tuple[int, int, str]:
    """Batch, threads and precision at which every shape runs."""
    batch = MAIN_BATCH if MAIN_BATCH in arguments.batch else arguments.batch[0]
    return batch, max(arguments.threads), arguments.dtype[0]


def contestants(setting: Setting, arguments: argparse.Namespace) -> dict[str, Contestant]:
    """All, and compiled ones where they are asked for."""
    is_main = (setting.batch, setting.threads, setting.dtype) == main_setting(arguments)
    if arguments.full or (is_main and setting.shape in STAGE_SHAPES):
        return CONTESTANTS | compiled(arguments.compile)
    return CONTESTANTS


def kept_bytes(layer: nn.Module, images: Tensor) -> int:
    """Bytes autograd keeps in a training step beside the layer and the input, each storage once."""
    held = [*layer.parameters(), *layer.buffers(), images]
    held += [one for module in layer.modules() for one in vars(module).values() if isinstance(one, Tensor)]
    own = {one.untyped_storage().data_ptr() for one in held}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(images)
        total = sum(kept.values())
    output.sum().backward()
    return total


def first_calls(layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs in inference and in a training step; leaves the running statistics as they were."""
    state = {name: one.clone() for name, one in layer.state_dict().items()}
    with torch.no_grad():
        inferred = layer.eval()(images)
    trained = layer.train()(images)
    trained.backward(torch.ones_like(trained))
    layer.load_state_dict(state)
    return inferred, trained.detach()


def check(
    name: str, setting: Setting, actual: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]
) -> float:
    """The larger relative error; no time is taken of a layer whose output is wrong."""
    pairs = zip(actual, expected, strict=True)
    errors = [float((one.float() - other).norm() / other.norm()) for one, other in pairs]
    # Written so that a NaN is found too.
    if not all(error < TOLERANCE[setting.dtype] for error in errors):
        raise SystemExit(f"layers: {name} is wrong at {setting.name}: relative errors {errors}.")
    return max(errors)


def prepare(
    setting: Setting, able: dict[str, Contestant], images: Tensor
) -> tuple[dict[str, nn.Module], dict[str, dict[str, float]]]:
    """The layers, warm and checked against ours in float32; their errors and the seconds to get warm."""
    dtype = getattr(torch, setting.dtype)
    state = draw(setting.shape, dtype)
    own = CONTESTANTS[OWN].make(setting.shape, state, torch.float32)
    expected = first_calls(own, images.detach().float())
    layers: dict[str, nn.Module] = {}
    notes: dict[str, dict[str, float]] = {"relative_error": {}, "first_calls_seconds": {}}
    for name, one in able.items():
        layers[name] = one.make(setting.shape, state, dtype)
        start = time.perf_counter()
        actual = first_calls(layers[name], images)
        notes["first_calls_seconds"][name] = time.perf_counter() - start
        notes["relative_error"][name] = check(name, setting, actual, expected)
    return layers, notes


def measure(setting: Setting, asked: dict[str, Contestant], repeats: int, longest: float) -> Result:
    """Every contestant at one setting."""
    torch.set_num_threads(setting.threads)
    # The compiler counts what it compiled for one function, and gives up after a few.
    torch.compiler.reset()
    dtype = getattr(torch, setting.dtype)
    able, left_out = line_up(asked, setting.shape, setting.batch, setting.threads, longest)
    images = draw_images(setting.shape, setting.batch, dtype)
    layers, notes = prepare(setting, able, images)
    result = {
        **setting._asdict(),
        "shape": setting.shape.name,
        "not_run": left_out,
        **notes,
        "kept_bytes": {name: kept_bytes(layer, images) for name, layer in layers.items()},
    }
    for kind, call in (("train", train), ("infer", infer)):
        for layer in layers.values():
            layer.train(kind == "train")
        calls: dict[str, Callable[[], object]] = {
            name: partial(call, layer, images) for name, layer in layers.items()
        }
        result[kind] = interleaved(calls, repeats, seconds=SECONDS, is_warm=True)
    return result


def show(result: Result, name: str) -> None:
    """One line a contestant."""
    print(name)
    for contestant, kept in result["kept_bytes"].items():
        cells = []
        for kind in ("train", "infer"):
            row = result[kind][contestant]
            spread = f"({row['min_ms']:.1f} to {row['max_ms']:.1f}, {row['repeats']}x)"
            cells.append(
                f"{kind} {row['median_ms']:8.1f} {spread:<26} {ratio(result, contestant, kind):5.2f}x"
            )
        print(f"  {contestant:<26} {'  '.join(cells)}  kept {kept / 1e6:7.1f} MB")
    for contestant, reason in result["not_run"].items():
        print(f"  {contestant:<26} not run ({reason})")
    print(end="", flush=True)


def ratio(result: Result, contestant: str, kind: str) -> float:
    """Its median over ours."""
    return result[kind][contestant]["median_ms"] / result[kind][OWN]["median_ms"]


def means(results: list[Result]) -> list[Result]:
    """Geometric means of the ratios over the four stages, for every setting that ran them all."""
    stages = {shape.name for shape in STAGE_SHAPES}
    groups: dict[tuple[int, int, str], list[Result]] = {}
    for result in results:
        if result["shape"] in stages:
            groups.setdefault((result["batch"], result["threads"], result["dtype"]), []).append(result)
    rows = []
    for (batch, threads, dtype), group in groups.items():
        for kind, name in itertools.product(("train", "infer"), group[0]["kept_bytes"]):
            if name != OWN and len(group) == len(stages) and all(name in one[kind] for one in group):
                mean = math.prod(ratio(one, name, kind) for one in group) ** (1 / len(group))
                rows.append(
                    {"batch": batch, "threads": threads, "dtype": dtype, "kind": kind, "contestant": name}
                    | {"ratio": mean}
                )
    return rows


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/layers.py")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--dtype", nargs="+", choices=tuple(TOLERANCE), default=list(TOLERANCE))
    parser.add_argument(
        "--shapes", nargs="+", default=[""], metavar="PART", help="of a name, as r23 or 28x28"
    )
    parser.add_argument("--compile", nargs="*", choices=tuple(CONTESTANTS), default=[CONVOLUTION, PAIRS])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Run all settings, print, and write one result file."""
    arguments = parse()
    longest = LONGEST_SECONDS if arguments.full else LONGEST_BY_DEFAULT
    results = []
    for setting in settings(arguments):
        results.append(measure(setting, contestants(setting, arguments), arguments.repeats, longest))
        show(results[-1], setting.name)
    rows = means(results)
    for row in rows:
        where = f"b={row['batch']} {row['threads']} threads {row['dtype']} {row['kind']}"
        print(f"four stages at r=23, {where}: {row['contestant']} / lambdanets {row['ratio']:.2f}")
    if arguments.out:
        write_result(arguments.out, "benchmarks/layers.py", {"results": results, "means": rows})


if __name__ == "__main__":
    main()
