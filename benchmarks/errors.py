"""Rounding errors of every contestant in a training step, in float32 and in bfloat16, against float64.

    python benchmarks/errors.py [--batch 2] [--threads 2] [--dtype float32 bfloat16] [--shapes PART ...]
        [--out FILE]

The truth is our layer in float64 with `impl="reference"`, the specification, on the same weights, images
and output gradients, which are rounded to the precision before it sees them. Prints the relative error of
the output and of every gradient: root mean square, and largest, both over the root mean square of the
truth; for each peer its error and ours over it. The aim is no ratio above 2. The worst stands at the end.
"""

from collections.abc import Mapping

import torch
from harness import Result, ResultFile, add_shapes, command_line
from peers import CONTESTANTS, OWN, Contestant, Weights, draw, draw_images, line_up
from shapes import ERROR_SHAPES, Shape, named
from torch import Tensor, nn

from lambdanets.nn import set_implementation

Errors = dict[str, dict[str, float]]


def step(contestant: Contestant, layer: nn.Module, images: Tensor, gradient: Tensor) -> Weights:
    """Output and all gradients of one training step."""
    layer.train()
    images = images.detach().requires_grad_()
    output = layer(images)
    output.backward(gradient)
    return {"output": output.detach(), "images": images.grad, **contestant.gradients(layer)}


def truth(shape: Shape, state: Weights, images: Tensor, gradient: Tensor) -> Weights:
    """The same step by the specification."""
    contestant = CONTESTANTS[OWN]
    layer = contestant.make(shape, state, torch.float64)
    set_implementation(layer, "reference")
    return step(contestant, layer, images.double(), gradient.double())


def relative_errors(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Errors:
    """Root mean square and largest difference of each tensor, over the root mean square of the truth."""
    rows = {}
    for name, one in expected.items():
        difference, scale = actual[name].double() - one, one.square().mean().sqrt()
        rows[name] = {
            "rms": float(difference.square().mean().sqrt() / scale),
            "max": float(difference.abs().max() / scale),
        }
    return rows


def measure(shape: Shape, batch: int, dtype_name: str) -> Result:
    """Every contestant at one shape and precision."""
    dtype = getattr(torch, dtype_name)
    able, left_out = line_up(CONTESTANTS, shape, batch, torch.get_num_threads())
    state, images = draw(shape, dtype), draw_images(shape, batch, dtype)
    gradient = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = truth(shape, state, images, gradient)
    errors = {
        name: relative_errors(step(one, one.make(shape, state, dtype), images, gradient), expected)
        for name, one in able.items()
    }
    result = {"shape": shape.name, "batch": batch, "dtype": dtype_name, "not_run": left_out}
    return result | {"errors": errors, "ratios": ratios(errors)}


def ratios(errors: dict[str, Errors]) -> dict[str, Errors]:
    """Our error over each peer's; 0 where both are exact."""
    own = errors[OWN]
    return {
        peer: {
            name: {kind: own[name][kind] / max(value, 1e-300) for kind, value in row.items()}
            for name, row in rows.items()
        }
        for peer, rows in errors.items()
        if peer != OWN
    }


def show(result: Result) -> None:
    """A block for each shape and precision: one line for each tensor."""
    print(f"{result['shape']}  b={result['batch']}  {result['dtype']}")
    for name, own in result["errors"][OWN].items():
        cells = [f"lambdanets {own['rms']:.1e} (max {own['max']:.1e})"]
        for peer, rows in result["ratios"].items():
            error = result["errors"][peer][name]
            cells.append(
                f"{peer} {error['rms']:.1e} ({error['max']:.1e}),"
                f" ours {rows[name]['rms']:.2f}x ({rows[name]['max']:.2f}x)"
            )
        print(f"  {name:<8} " + "   ".join(cells))
    for name, reason in result["not_run"].items():
        print(f"  {name} not run ({reason})")
    print(end="", flush=True)


def worst(results: list[Result], kind: str) -> tuple[float, str]:
    """The largest ratio of ours to a peer's, and where."""
    return max(
        (row[kind], f"{result['shape']} {result['dtype']} {name}, against {peer}")
        for result in results
        for peer, rows in result["ratios"].items()
        for name, row in rows.items()
    )


def main() -> None:
    """Run all shapes and precisions, print, and write one result file."""
    parser = command_line(__doc__, batch=2)
    dtypes = ("float32", "bfloat16")
    parser.add_argument("--dtype", nargs="+", choices=dtypes, default=dtypes)
    add_shapes(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    file, results = ResultFile(arguments.out), []
    for shape in named(ERROR_SHAPES, arguments.shapes):
        for dtype in arguments.dtype:
            results.append(measure(shape, arguments.batch, dtype))
            show(results[-1])
            file.add(results=results)
    for kind in ("rms", "max"):
        ratio, where = worst(results, kind)
        print(f"worst ratio of {kind} errors: {ratio:.2f} at {where}")


if __name__ == "__main__":
    main()
