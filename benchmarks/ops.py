"""Time every implementation of `position_output` against the Conv3d form all other projects use.

    python benchmarks/ops.py [--batch 8] [--repeats 7] [--threads 2] [--shapes PART ...] [--out FILE]

Prints medians in milliseconds, the ratio to the Conv3d form timed in the same run, and whether
`auto` chose the best. Outputs of all implementations are compared before anything is timed.
"""

import functools
from collections.abc import Callable
from typing import Final

import torch
from harness import Call, Result, ResultFile, add_shapes, command_line, race
from shapes import NUM_HEADS, OPERATOR_SHAPES, QUERY_DEPTH, Shape, named
from torch import Tensor

from lambdanets.functional import position_output
from lambdanets.functional._dispatch import choose, default_workspace
from lambdanets.functional.position import IMPLEMENTATIONS, describe
from lambdanets.functional.relative_position import crop_table, dense_embeddings

Tensors = tuple[Tensor, Tensor, Tensor]
Operator = Callable[..., Tensor]

# The peers' formula, and what it is called here.
PEERS: Final = "peers' formula"
# An implementation whose step is estimated to take longer is left out.
LONGEST_SECONDS: Final = 2.0


def conv3d_form(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """The peers' way: a 3-d convolution over (v, height, width), then an einsum with the queries."""
    lambdas = torch.nn.functional.conv3d(
        values, table.transpose(0, 1).unsqueeze(2), padding=(0, *(side // 2 for side in table.shape[2:]))
    )
    return torch.einsum("bhkyx,bkvyx->bhvyx", queries, lambdas)


def einsum_form(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """The peers' way with a global context: embeddings of all pairs, lambdas, lambdas applied."""
    size = queries.shape[3:]
    embeddings = dense_embeddings(table, tuple(size))
    lambdas = torch.einsum("nmuk,buvm->bnkv", embeddings, values.flatten(3))
    return torch.einsum("bhkn,bnkv->bhvn", queries.flatten(3), lambdas).unflatten(-1, size)


def make(shape: Shape, batch: int) -> Tensors:
    """Queries, values and a table of one shape, all of which need gradients."""
    generator = torch.Generator().manual_seed(0)
    sizes = (
        (batch, NUM_HEADS, QUERY_DEPTH, shape.side, shape.side),
        (batch, 1, shape.value_depth, shape.side, shape.side),
        (1, QUERY_DEPTH, shape.table_side, shape.table_side),
    )
    queries, values, table = (torch.randn(size, generator=generator, requires_grad=True) for size in sizes)
    return queries, values, table


def infer(operator: Operator, tensors: Tensors) -> None:
    """The output alone."""
    with torch.no_grad():
        operator(*tensors)


def train(operator: Operator, tensors: Tensors) -> None:
    """The output and all gradients."""
    output = operator(*tensors)
    torch.autograd.grad(output, tensors, torch.ones_like(output))


def implementations(tensors: Tensors, longest: float = LONGEST_SECONDS) -> tuple[dict[str, Operator], Result]:
    """Those worth timing at these sizes by name; what `auto` takes in each direction, and the estimates."""
    size = tensors[0].shape[3:]
    reachable = (*tensors[:2], crop_table(tensors[2], tuple(2 * side - 1 for side in size)))
    workspace = default_workspace(tensors[0].device.type)
    directions = [describe(*reachable, backward=backward, workspace=workspace) for backward in (False, True)]
    estimates = {one.name: [1e3 * one.cost(problem) for problem in directions] for one in IMPLEMENTATIONS}
    able: dict[str, Operator] = {"auto": position_output}
    for one in IMPLEMENTATIONS:
        can = not any(one.why_not(problem) for problem in directions)
        if one.name != "reference" and can and sum(estimates[one.name]) < 1e3 * longest:
            able[one.name] = functools.partial(position_output, impl=one.name)
    chosen = [choose(IMPLEMENTATIONS, problem).name for problem in directions]
    return able, {"auto": chosen, "estimates_ms": estimates}


def measure(shape: Shape, batch: int, repeats: int) -> Result:
    """Medians of every implementation at one shape, and what `auto` takes in each direction."""
    tensors = make(shape, batch)
    able, notes = implementations(tensors)
    if shape.scope is not None:
        able["conv3d"] = conv3d_form
    check(able, tensors, shape)
    result = {"shape": shape.name, "batch": batch, **notes}
    for kind, call in (("infer", infer), ("train", train)):
        calls: dict[str, Call] = {
            name: functools.partial(call, operator, tensors) for name, operator in able.items()
        }
        result[kind] = race(calls, repeats)
    return result


def check(able: dict[str, Operator], tensors: Tensors, shape: Shape) -> None:
    """No time is taken of an implementation whose output is wrong."""
    with torch.no_grad():
        expected = position_output(*(tensor.double() for tensor in tensors), impl="fourier")
        for name, operator in able.items():
            error = float((operator(*tensors).double() - expected).norm() / expected.norm())
            if not error < 1e-5:
                raise SystemExit(f"ops: {name} is wrong at {shape.name}: {error:.1e}")


def show(result: Result) -> None:
    """Two lines: forward, and forward with gradients."""
    for kind in ("infer", "train"):
        times = {name: row["median_ms"] for name, row in result[kind].items()}
        best = min(time for name, time in times.items() if name not in ("auto", "conv3d"))
        peer = f"{times['conv3d'] / times['auto']:5.1f}x conv3d" if "conv3d" in times else ""
        chosen = "+".join(dict.fromkeys(result["auto"][: 1 if kind == "infer" else 2]))
        cells = " ".join(f"{name} {time:.1f}" for name, time in times.items())
        ratio = times["auto"] / best
        print(
            f"{result['shape']:<19}{kind}  {chosen:<18} {ratio:4.2f} of best {peer:<14} {cells}", flush=True
        )


def main() -> None:
    """Run every shape, print, and write one result file."""
    parser = command_line(__doc__, batch=8, repeats=7)
    add_shapes(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    file, results = ResultFile(arguments.out), []
    for shape in named(OPERATOR_SHAPES, arguments.shapes):
        results.append(measure(shape, arguments.batch, arguments.repeats))
        show(results[-1])
        file.add(results=results)


if __name__ == "__main__":
    main()
