"""`lambdanets bench`: what each implementation of an operator would cost, and tiles for the GPU at hand."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from lambdanets.cli._options import parse_size
from lambdanets.errors import ArgumentError

if TYPE_CHECKING:
    from lambdanets.functional._dispatch import Problem


def bench(
    operator: Literal["ops"],
    /,
    *,
    explain: str | None = None,
    tune: str | None = None,
    seconds: float = 60.0,
    scope: str = "23",
    batch: int = 8,
    channels: int = 128,
    query_depth: int = 16,
    num_heads: int = 4,
    intra_depth: int = 1,
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32",
    device: Literal["cpu", "cuda"] | None = None,
    format: Literal["text", "json"] = "text",
) -> None:
    """Estimate the cost of each implementation of an operator, or tune its kernels.

    Args:
        operator: ops is the position output of a lambda layer.
        explain: Estimate at these positions along each axis, such as 28x28 (or 100, or 8x14x14).
        tune: Time the Triton kernels' tiles at these positions, and keep the fastest for later runs.
        seconds: Time for --tune.
        scope: Window: R, RxR or global.
        batch: Number of images.
        channels: Channels of the outputs.
        query_depth: Depth of queries and keys.
        num_heads: Number of heads.
        intra_depth: Intra-depth.
        dtype: Of the tensors.
        device: For --explain cpu unless given, which need not be there; --tune takes cuda.
        format: text or json.
    """
    if (explain is None) == (tune is None):
        raise ArgumentError("bench: one of explain and tune must be given, such as --explain 28x28.")
    if channels % num_heads:
        raise ArgumentError(
            f"bench: channels must be divisible by num-heads, got {channels} and {num_heads}."
        )
    import torch

    from lambdanets.functional._dispatch import Problem, default_workspace

    size = parse_size(explain or tune or "", "bench: size", most=3)
    device = device or ("cpu" if explain else "cuda")
    problem = Problem(
        operation="position_output",
        batch=batch,
        heads=num_heads,
        query_depth=query_depth,
        intra_depth=intra_depth,
        value_depth=channels // num_heads,
        size=size,
        scope=_parse_scope(scope, size),
        dtype=getattr(torch, dtype),
        device=device,
        backward=False,
        workspace=default_workspace(device),
    )
    title = (
        f"position_output at {'x'.join(map(str, size))}, scope {scope}, b={batch}, d={channels},"
        f" k={query_depth}, h={num_heads}, u={intra_depth}, {dtype}, {device}"
    )
    if explain:
        _explain(problem, title, format)
    else:
        _tune(problem, title, seconds, format)


def _explain(problem: "Problem", title: str, format: str) -> None:
    from lambdanets.analysis.estimates import explain
    from lambdanets.terminal import table

    rows = explain(problem)
    if format == "json":
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{title}: estimates, nothing was run")
    cells = [
        (
            row.direction,
            row.implementation,
            "" if row.milliseconds is None else f"{row.milliseconds:.2f}",
            "<- auto" if row.chosen else row.reason or "",
        )
        for row in rows
    ]
    print(table(("direction", "implementation", "ms", ""), cells, indent=2))


def _tune(problem: "Problem", title: str, seconds: float, format: str) -> None:
    import torch

    from lambdanets.analysis.tune import tune
    from lambdanets.functional.position._tiles import cache_file
    from lambdanets.terminal import table

    if problem.device == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("bench: tune needs a CUDA device, and this machine has none.")
    found = tune(problem, seconds=seconds)
    if format == "json":
        print(json.dumps([asdict(one) | {"tiles": one.tiles._asdict()} for one in found], indent=2))
        return
    print(title)
    cells = [
        (
            one.kernel,
            f"{one.milliseconds:.3f}",
            "" if one.rule_milliseconds is None else f"{one.rule_milliseconds:.3f}",
            "x".join(map(str, one.tiles[:4])),
            "images" if one.tiles.by_image else "rows",
            one.tiles.warps,
            one.tiles.stages,
            one.tried,
            one.failed,
        )
        for one in found
    ]
    headings = ("kernel", "ms", "rule's ms", "tiles", "order", "warps", "stages", "tried", "failed")
    print(table(headings, cells, indent=2))
    print(f"kept in {cache_file()}")


def _parse_scope(text: str, size: tuple[int, ...]) -> tuple[int, ...]:
    if text == "global":
        return tuple(2 * length - 1 for length in size)
    sides = parse_size(text, "bench: scope", most=3)
    return sides * len(size) if len(sides) == 1 else sides
