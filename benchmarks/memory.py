"""Peak memory of one training step of every contestant, each in a process of its own (Linux).

    python benchmarks/memory.py [--batch 8] [--threads 2] [--dtype float32] [--shapes PART ...] [--out FILE]

Prints, for the four stages of a ResNet-50 at r=23 and for global contexts, the resident memory at the peak
of a step (the output and all gradients) less what was resident right before it, in MB, and its ratio to
ours; for a contestant left out "not run" and why. Compiled contestants are not measured: a compiler's own
memory would be counted.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from peers import CONTESTANTS, OWN, draw, draw_images, line_up, train
from problems import LAYER_SHAPES, STAGE_SHAPES, Shape, largest_batch
from resident import extra_bytes, fresh
from timing import Result, write_result

SHAPES = (*STAGE_SHAPES, *(shape for shape in LAYER_SHAPES if shape.scope is None))


def step_bytes(name: str, shape: Shape, batch: int, threads: int, dtype: torch.dtype) -> int:
    """Extra bytes of a training step of one contestant, in this process."""
    torch.set_num_threads(threads)
    small = Shape(4, 16, 3 if shape.scope else None)
    return extra_bytes(_step(name, small, 1, dtype), _step(name, shape, batch, dtype))


def _step(name: str, shape: Shape, batch: int, dtype: torch.dtype) -> partial[None]:
    layer = CONTESTANTS[name].make(shape, draw(shape, dtype), dtype)
    return partial(train, layer, draw_images(shape, batch, dtype))


def measure(shape: Shape, batch: int, threads: int, dtype: str) -> Result:
    """Every contestant at one shape."""
    able, left_out = line_up(CONTESTANTS, shape, batch, threads)
    return {
        "shape": shape.name,
        "batch": batch,
        "threads": threads,
        "dtype": dtype,
        "not_run": left_out,
        "extra_bytes": {
            name: fresh(step_bytes, name, shape, batch, threads, getattr(torch, dtype)) for name in able
        },
    }


def show(result: Result) -> None:
    """One line a contestant."""
    print(f"{result['shape']:<19} b={result['batch']:<3} {result['dtype']}")
    own = max(result["extra_bytes"][OWN], 1)
    for name, value in result["extra_bytes"].items():
        print(f"  {name:<18} {value / 1e6:8.1f} MB  {value / own:6.2f}x")
    for name, reason in result["not_run"].items():
        print(f"  {name:<18} not run ({reason})")
    print(end="", flush=True)


def main() -> None:
    """Start a process for each contestant and shape, print, and write one result file."""
    parser = argparse.ArgumentParser(prog="benchmarks/memory.py")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--shapes", nargs="+", default=[""], metavar="PART", help="of a name, as r23 or 28x28"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    for shape in SHAPES:
        if any(part in shape.name for part in arguments.shapes):
            batch = largest_batch(shape, arguments.batch)
            results.append(measure(shape, batch, arguments.threads, arguments.dtype))
            show(results[-1])
    if arguments.out:
        write_result(arguments.out, "benchmarks/memory.py", {"results": results})


if __name__ == "__main__":
    main()
