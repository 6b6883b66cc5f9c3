"""Race the whole layer against `lambda-networks`, `timm` and plain PyTorch, eager and compiled.

    pip install lambda-networks timm
    python benchmarks/layers.py [--batch 8 1 32] [--threads 2 1] [--dtype float32 bfloat16]
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
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import torch
from harness import Call, Result, ResultFile, add_shapes, race, show_time
from peers import (
    CONTESTANTS,
    CONVOLUTION,
    LONGEST_SECONDS,
    OWN,
    PAIRS,
    Contestant,
    compiled,
    draw,
    draw_images,
    first_calls,
    infer,
    kept_bytes,
    line_up,
    relative_error,
    train,
)
from shapes import LAYER_SHAPES, STAGE_SHAPES, Shape, largest_batch, named

# Seconds of one contestant's repeats, in training and in inference each.
SECONDS: Final = 3.0
MAIN_BATCH: Final = 8
# Run at every other setting too.
ELSEWHERE: Final = (Shape(28, 128, 23), Shape(7, 512, 23))
# A step estimated to take longer is left to --full.
LONGEST_BY_DEFAULT: Final = 5.0
# Largest relative error of an output against ours in float32.
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
    """Every shape at the main setting and two of them elsewhere; or all combinations."""
    main = main_setting(arguments)
    for values in itertools.product(arguments.batch, arguments.threads, arguments.dtype):
        changed = sum(one != other for one, other in zip(values, main, strict=True))
        for shape in named(LAYER_SHAPES, arguments.shapes):
            batch, threads, dtype = values
            if changed == 0 and not arguments.full:
                yield Setting(shape, largest_batch(shape, batch), threads, dtype)
            elif arguments.full or (changed == 1 and shape in ELSEWHERE):
                yield Setting(shape, batch, threads, dtype)


def main_setting(arguments: argparse.Namespace) -> tuple[int, int, str]:
    """Batch, threads and precision at which every shape runs."""
    batch = MAIN_BATCH if MAIN_BATCH in arguments.batch else arguments.batch[0]
    return batch, max(arguments.threads), arguments.dtype[0]


def contestants(setting: Setting, arguments: argparse.Namespace) -> dict[str, Contestant]:
    """All eager ones, and at some settings compiled ones."""
    is_main = (setting.batch, setting.threads, setting.dtype) == main_setting(arguments)
    if arguments.full or (is_main and setting.shape in STAGE_SHAPES):
        return CONTESTANTS | compiled(arguments.compile)
    return CONTESTANTS


def measure(setting: Setting, everyone: dict[str, Contestant], repeats: int, longest: float) -> Result:
    """Every contestant at one setting."""
    torch.set_num_threads(setting.threads)
    # The compiler counts what it compiled for one function, and gives up after a few.
    torch.compiler.reset()
    dtype = getattr(torch, setting.dtype)
    able, left_out = line_up(everyone, setting.shape, setting.batch, setting.threads, longest)
    images, state = draw_images(setting.shape, setting.batch, dtype), draw(setting.shape, dtype)
    own = CONTESTANTS[OWN].make(setting.shape, state, torch.float32)
    expected = first_calls(own, images.detach().float())
    layers = {name: one.make(setting.shape, state, dtype) for name, one in able.items()}
    errors = {
        name: relative_error(first_calls(layer, images), expected, TOLERANCE[setting.dtype])
        for name, layer in layers.items()
    }
    result = {
        **setting._asdict(),
        "shape": setting.shape.name,
        "not_run": left_out,
        "relative_error": errors,
        "kept_bytes": {name: kept_bytes(layer, images) for name, layer in layers.items()},
    }
    for kind, call in (("train", train), ("infer", infer)):
        for layer in layers.values():
            layer.train(kind == "train")
        calls: dict[str, Call] = {name: partial(call, layer, images) for name, layer in layers.items()}
        result[kind] = race(calls, repeats, seconds=SECONDS, is_warm=True)
    return result


def show(result: Result, name: str) -> None:
    """One line for each contestant."""
    print(name)
    for contestant, kept in result["kept_bytes"].items():
        cells = [
            f"{kind} {show_time(result[kind][contestant])} {ratio(result, contestant, kind):5.2f}x"
            for kind in ("train", "infer")
        ]
        print(f"  {contestant:<26} {'  '.join(cells)}  kept {kept / 1e6:7.1f} MB")
    for contestant, reason in result["not_run"].items():
        print(f"  {contestant:<26} not run ({reason})")
    print(end="", flush=True)


def ratio(result: Result, contestant: str, kind: str) -> float:
    """The contestant's median over ours."""
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
                mean = statistics.geometric_mean(ratio(one, name, kind) for one in group)
                rows.append(
                    {"batch": batch, "threads": threads, "dtype": dtype, "kind": kind, "contestant": name}
                    | {"ratio": mean}
                )
    return rows


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--dtype", nargs="+", choices=tuple(TOLERANCE), default=list(TOLERANCE))
    add_shapes(parser)
    parser.add_argument("--compile", nargs="*", choices=tuple(CONTESTANTS), default=[CONVOLUTION, PAIRS])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Run all settings, print, and write one result file."""
    arguments = parse()
    longest = LONGEST_SECONDS if arguments.full else LONGEST_BY_DEFAULT
    file, results = ResultFile(arguments.out), []
    for setting in settings(arguments):
        results.append(measure(setting, contestants(setting, arguments), arguments.repeats, longest))
        show(results[-1], setting.name)
        file.add(results=results)
    rows = means(results)
    for row in rows:
        where = f"b={row['batch']} {row['threads']} threads {row['dtype']} {row['kind']}"
        print(f"four stages at r=23, {where}: {row['contestant']} / {OWN} {row['ratio']:.2f}")
    file.add(means=rows)


if __name__ == "__main__":
    main()
