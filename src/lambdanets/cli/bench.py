"""`lambdanets bench`: what each implementation of an operator would cost, and tiles for the GPU at hand."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from lambdanets.errors import ArgumentError

if TYPE_CHECKING:
    from lambdanets.functional._dispatch import Problem

DTYPES = ("float32", "bfloat16", "float16", "float64")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("operator", choices=("ops",), help="ops: the position output of a lambda layer")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--explain",
        metavar="SIZE",
        type=_sides,
        help="estimates at these positions along each axis, such as 28x28 (or 100, or 8x14x14)",
    )
    what.add_argument(
        "--tune",
        metavar="SIZE",
        type=_sides,
        help="time the Triton kernels' tiles on this machine's GPU, and keep the fastest for later runs",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for --tune (60)")
    parser.add_argument("--scope", metavar="R|RxR|global", default="23", help="window (23)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--query-depth", type=int, default=16, metavar="K")
    parser.add_argument("--num-heads", type=int, default=4, metavar="H")
    parser.add_argument("--intra-depth", type=int, default=1, metavar="U")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="for --explain: need not be there (cpu); --tune takes cuda"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def main(arguments: argparse.Namespace) -> int:
    """Print every implementation with its estimate, or why it cannot run; or tune the kernels."""
    if arguments.channels % arguments.num_heads:
        raise ArgumentError(
            "bench: channels must be divisible by num-heads, "
            f"got {arguments.channels} and {arguments.num_heads}."
        )
    return _tune(arguments) if arguments.tune else _explain(arguments)


def _explain(arguments: argparse.Namespace) -> int:
    from lambdanets.analysis.estimates import explain

    device = arguments.device or "cpu"
    rows = explain(_problem(arguments, arguments.explain, device))
    if arguments.format == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    print(f"{_title(arguments, arguments.explain)}, {device}: estimates, nothing was run")
    for row in rows:
        value = row.reason if row.milliseconds is None else f"{row.milliseconds:10.2f} ms"
        print(f"  {row.direction:<10} {row.implementation:<12} {value}{'   <- auto' if row.chosen else ''}")
    return 0


def _tune(arguments: argparse.Namespace) -> int:
    import torch

    from lambdanets.analysis.tune import tune
    from lambdanets.functional.position._tiles import cache_file

    device = arguments.device or "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("bench: tune needs a CUDA device, and this machine has none.")
    found = tune(_problem(arguments, arguments.tune, device), seconds=arguments.seconds)
    if arguments.format == "json":
        print(json.dumps([asdict(one) | {"tiles": one.tiles._asdict()} for one in found], indent=2))
        return 0
    print(f"{_title(arguments, arguments.tune)}, {device}")
    for one in found:
        before = "" if one.rule_milliseconds is None else f" (rule: {one.rule_milliseconds:.3f} ms)"
        tiles = "x".join(map(str, one.tiles[:4]))
        order = "images" if one.tiles.by_image else "rows"
        print(
            f"  {one.kernel:<17} {one.milliseconds:9.3f} ms{before}: {tiles} {order}, "
            f"{one.tiles.warps} warps, {one.tiles.stages} stages; {one.tried} tried, {one.failed} failed"
        )
    print(f"kept in {cache_file()}")
    return 0


def _title(arguments: argparse.Namespace, size: tuple[int, ...]) -> str:
    shape = "x".join(map(str, size))
    return (
        f"position_output at {shape}, scope {arguments.scope}, b={arguments.batch}, d={arguments.channels}, "
        f"k={arguments.query_depth}, h={arguments.num_heads}, u={arguments.intra_depth}, {arguments.dtype}"
    )


def _problem(arguments: argparse.Namespace, size: tuple[int, ...], device: str) -> "Problem":
    import torch

    from lambdanets.functional._dispatch import Problem, default_workspace

    return Problem(
        operation="position_output",
        batch=arguments.batch,
        heads=arguments.num_heads,
        query_depth=arguments.query_depth,
        intra_depth=arguments.intra_depth,
        value_depth=arguments.channels // arguments.num_heads,
        size=size,
        scope=_scope(arguments.scope, size),
        dtype=getattr(torch, arguments.dtype),
        device=device,
        backward=False,
        workspace=default_workspace(device),
    )


def _sides(text: str) -> tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().split("x"))
    if not 1 <= len(sides) <= 3 or min(sides) < 1:
        raise ValueError
    return sides


# What argparse calls it in its messages.
_sides.__name__ = "size"


def _scope(text: str, size: tuple[int, ...]) -> tuple[int, ...]:
    if text == "global":
        return tuple(2 * length - 1 for length in size)
    try:
        sides = _sides(text)
    except ValueError:
        raise ArgumentError(
            f"bench: scope must be a number, such as 23 or 3x7, or global, got {text!r}."
        ) from None
    return sides * len(size) if len(sides) == 1 else sides
