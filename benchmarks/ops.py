"""Time every implementation of `position_output` against the Conv3d form all other projects use.

    python benchmarks/ops.py [--batch 8] [--repeats 7] [--threads 2] [--out FILE]

Prints medians in milliseconds, the ratio to the Conv3d form timed in the same run, and whether
`auto` chose the best. Outputs of all forms are compared before anything is timed.
"""

import argparse
import datetime
import itertools
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch
from problems import SHAPES, Shape
from torch import Tensor

from lambdanets.functional import position_output
from lambdanets.functional._dispatch import choose
from lambdanets.functional.position.operator import IMPLEMENTATIONS, describe
from lambdanets.functional.relative_position import crop_table

QUERY_DEPTH, NUM_HEADS = 16, 4
# What a form may cost before it is left out, by its own estimate.
LONGEST_SECONDS = 4.0


def conv3d_form(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """The peers' way: a 3-d convolution over (v, height, width), then an einsum with the queries."""
    lambdas = torch.nn.functional.conv3d(
        values, table.transpose(0, 1).unsqueeze(2), padding=(0, *(side // 2 for side in table.shape[2:]))
    )
    return torch.einsum("bhkyx,bkvyx->bhvyx", queries, lambdas)


def make(shape: Shape, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, values and a table of one shape, all wanting gradients."""
    scope = shape.scope or 2 * shape.side - 1
    generator = torch.Generator().manual_seed(0)
    sizes = (
        (batch, NUM_HEADS, QUERY_DEPTH, shape.side, shape.side),
        (batch, 1, shape.channels // NUM_HEADS, shape.side, shape.side),
        (1, QUERY_DEPTH, scope, scope),
    )
    return tuple(torch.randn(size, generator=generator, requires_grad=True) for size in sizes)


def seconds(form, tensors: tuple[Tensor, ...], backward: bool) -> float:
    """One call, with its gradients if asked for."""
    start = time.perf_counter()
    if backward:
        output = form(*tensors)
        torch.autograd.grad(output, tensors, torch.ones_like(output))
    else:
        with torch.no_grad():
            form(*tensors)
    return time.perf_counter() - start


def measure(shape: Shape, batch: int, repeats: int, backward: bool) -> dict:
    """Median and spread of every form at one shape, interleaved."""
    tensors = make(shape, batch)
    cropped = (*tensors[:2], crop_table(tensors[2], (2 * shape.side - 1,) * 2))
    with torch.set_grad_enabled(backward):
        problem = describe(*cropped)
    forms = {
        one.name: lambda q, v, t, name=one.name: position_output(q, v, t, impl=name)
        for one in IMPLEMENTATIONS
        if one.cost(problem) < LONGEST_SECONDS
    }
    if shape.scope is not None:
        forms["conv3d"] = conv3d_form
    with torch.no_grad():
        expected = position_output(*(tensor.double() for tensor in tensors), impl="dense")
        for name, form in forms.items():
            error = (form(*tensors).double() - expected).norm() / expected.norm()
            assert error < 1e-5, f"{name} is wrong at {shape.name}: {error:.1e}"
    times: dict[str, list[float]] = {name: [] for name in forms}
    for name, form in itertools.chain(forms.items(), *itertools.repeat(forms.items(), repeats)):
        times[name].append(seconds(form, tensors, backward))
    rows = {
        name: {
            "median_ms": 1e3 * statistics.median(one[1:]),
            "min_ms": 1e3 * min(one[1:]),
            "max_ms": 1e3 * max(one[1:]),
        }
        for name, one in times.items()
    }
    for one in IMPLEMENTATIONS:
        if one.name in rows:
            rows[one.name]["estimate_ms"] = 1e3 * one.cost(problem)
    return {
        "shape": shape.name,
        "batch": batch,
        "backward": backward,
        "auto": choose(IMPLEMENTATIONS, problem).name,
        "forms": rows,
    }


def show(result: dict) -> None:
    """One line: medians, and the estimate of ours in brackets."""
    forms = result["forms"]
    own = {name: row["median_ms"] for name, row in forms.items() if name != "conv3d"}
    auto = own[result["auto"]]
    cells = [
        f"{name} {row['median_ms']:8.2f}"
        + (f" [{row['estimate_ms']:7.2f}]" if "estimate_ms" in row else " " * 10)
        for name, row in forms.items()
    ]
    peer = f"{forms['conv3d']['median_ms'] / auto:6.1f}x conv3d" if "conv3d" in forms else ""
    kind = "train" if result["backward"] else "infer"
    chosen = f"auto={result['auto']:<12} {auto / min(own.values()):4.2f} of best"
    print(f"{result['shape']:<18} {kind} {chosen} {peer:<14}", *cells)


def main() -> None:
    """Run every shape, print, and write one result file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    for shape, backward in itertools.product(SHAPES, (False, True)):
        results.append(measure(shape, arguments.batch, arguments.repeats, backward))
        show(results[-1])
    if arguments.out:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        origin = {
            "date": datetime.date.today().isoformat(),
            "commit": commit.stdout.strip(),
            "machine": f"{platform.machine()}, {_processor()}, {arguments.threads} threads",
            "torch": torch.__version__,
            "repeats": arguments.repeats,
            "dtype": "float32",
        }
        arguments.out.write_text(json.dumps({"origin": origin, "results": results}, indent=1) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
