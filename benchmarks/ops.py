"""Time every implementation of `position_output` against the Conv3d form all other projects use.

    python benchmarks/ops.py [--batch 8] [--repeats 7] [--threads 2] [--out FILE]

Prints medians in milliseconds, the ratio to the Conv3d form timed in the same run, and whether
`auto` chose the best. Outputs of all forms are compared before anything is timed.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch
from problems import SHAPES, Shape
from timing import Result, interleaved, options, write
from torch import Tensor

from lambdanets.functional import position_output
from lambdanets.functional._dispatch import choose, default_workspace
from lambdanets.functional.position import IMPLEMENTATIONS, describe
from lambdanets.functional.relative_position import crop_table

QUERY_DEPTH, NUM_HEADS = 16, 4
# What a form may cost before it is left out, by its own estimate.
LONGEST_SECONDS = 2.0


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
    queries, values, table = (torch.randn(size, generator=generator, requires_grad=True) for size in sizes)
    return queries, values, table


def infer(form: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> None:
    """The output alone."""
    with torch.no_grad():
        form(*tensors)


def train(form: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> None:
    """The output and all gradients."""
    output = form(*tensors)
    torch.autograd.grad(output, tensors, torch.ones_like(output))


def measure(shape: Shape, batch: int, repeats: int) -> Result:
    """Medians of every form at one shape, and what `auto` takes in each direction."""
    tensors = make(shape, batch)
    reachable = (*tensors[:2], crop_table(tensors[2], (2 * shape.side - 1,) * 2))
    workspace = default_workspace("cpu")
    directions = [describe(*reachable, backward=backward, workspace=workspace) for backward in (False, True)]
    forms: dict[str, Callable[..., Tensor]] = {"auto": position_output}
    for one in IMPLEMENTATIONS[1:]:
        if sum(map(one.cost, directions)) < LONGEST_SECONDS:
            forms[one.name] = partial(position_output, impl=one.name)
    if shape.scope is not None:
        forms["conv3d"] = conv3d_form
    check(forms, tensors, shape)
    return {
        "shape": shape.name,
        "batch": batch,
        "auto": [choose(IMPLEMENTATIONS, problem).name for problem in directions],
        "estimates_ms": {one.name: [1e3 * one.cost(p) for p in directions] for one in IMPLEMENTATIONS},
        "infer": interleaved({name: partial(infer, form, tensors) for name, form in forms.items()}, repeats),
        "train": interleaved({name: partial(train, form, tensors) for name, form in forms.items()}, repeats),
    }


def check(forms: dict[str, Callable[..., Tensor]], tensors: tuple[Tensor, ...], shape: Shape) -> None:
    """No time is taken of a form whose output is wrong."""
    with torch.no_grad():
        expected = position_output(*(tensor.double() for tensor in tensors), impl="fourier")
        for name, form in forms.items():
            error = float((form(*tensors).double() - expected).norm() / expected.norm())
            if error > 1e-5:
                raise SystemExit(f"{name} is wrong at {shape.name}: {error:.1e}")


def show(result: Result) -> None:
    """Two lines: forward, and forward with gradients."""
    for kind in ("infer", "train"):
        times = {name: row["median_ms"] for name, row in result[kind].items()}
        best = min(time for name, time in times.items() if name not in ("auto", "conv3d"))
        peer = f"{times['conv3d'] / times['auto']:5.1f}x conv3d" if "conv3d" in times else ""
        chosen = "+".join(dict.fromkeys(result["auto"][: 1 if kind == "infer" else 2]))
        cells = " ".join(f"{name} {time:.1f}" for name, time in times.items())
        share = times["auto"] / best
        print(f"{result['shape']:<19}{kind}  {chosen:<18} {share:4.2f} of best {peer:<14} {cells}")
    sys.stdout.flush()


def main() -> None:
    """Run every shape, print, and write one result file."""
    arguments = options("benchmarks/ops.py")
    results = []
    for shape in SHAPES:
        results.append(measure(shape, arguments.batch, arguments.repeats))
        show(results[-1])
    write("benchmarks/ops.py", arguments, results)


if __name__ == "__main__":
    main()
