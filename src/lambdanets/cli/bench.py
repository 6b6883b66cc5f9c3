"""`lambdanets bench`: what each implementation of an operator would cost."""

from typing import TYPE_CHECKING, Any, Literal

from lambdanets.cli._options import Format, parse_size, print_json
from lambdanets.errors import ArgumentError
from lambdanets.ranges import Channels, Count
from lambdanets.streams import print_line

if TYPE_CHECKING:
    from lambdanets.functional._dispatch import Problem


def bench(
    operator: Literal["ops"],
    /,
    *,
    explain: str,
    scope: str = "23",
    batch: Count = 8,
    channels: Channels = 128,
    query_depth: Channels = 16,
    num_heads: Channels = 4,
    intra_depth: Channels = 1,
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    format: Format = "text",
) -> None:
    """Estimate the cost of each implementation of an operator, without running any.

    Args:
        operator: ops is the position output of a lambda layer.
        explain: Estimate at these positions along each axis, such as 28x28 (or 100, or 8x14x14).
        scope: Window: R, RxR or global.
        batch: Number of images.
        channels: Channels of the outputs.
        query_depth: Depth of queries and keys.
        num_heads: Number of heads.
        intra_depth: Intra-depth.
        dtype: Type of the tensors.
        device: cpu or cuda, which need not be there.
        format: text or json; --json is short for the latter.
    """
    if channels % num_heads:
        raise ArgumentError(
            f"bench: channels must be divisible by num-heads, got {channels} and {num_heads}."
        )
    import torch

    from lambdanets.functional._dispatch import Problem, default_workspace
    from lambdanets.terminal import fill, table

    size = parse_size(explain, "bench: size", most=3)
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
    rows = _estimate(problem)
    if format == "json":
        print_json(rows)
        return
    print_line(fill(f"{title}: estimates, nothing was run"))
    cells = [
        (
            row["direction"],
            row["implementation"],
            "" if row["milliseconds"] is None else f"{row['milliseconds']:.2f}",
            "<- auto" if row["chosen"] else row["reason"] or "",
        )
        for row in rows
    ]
    print_line(table(("direction", "implementation", "ms", ""), cells, indent=2))


def _estimate(problem: "Problem") -> list[dict[str, Any]]:
    """A row for each implementation in each direction: its cost, or why it cannot run."""
    from lambdanets.functional._dispatch import choose
    from lambdanets.functional.position import IMPLEMENTATIONS
    from lambdanets.functional.relative_position import check_scope

    check_scope("bench", problem.scope, len(problem.size))
    rows = []
    for direction in ("output", "gradients"):
        one_way = problem._replace(scope=problem.reachable_scope, backward=direction == "gradients")
        chosen = choose(IMPLEMENTATIONS, one_way)
        for one in IMPLEMENTATIONS:
            reason = one.why_not(one_way)
            rows.append(
                {
                    "implementation": one.name,
                    "direction": direction,
                    "milliseconds": None if reason else 1e3 * one.cost(one_way),
                    "reason": reason,
                    "chosen": one is chosen,
                }
            )
    return rows


def _parse_scope(text: str, size: tuple[int, ...]) -> tuple[int, ...]:
    if text == "global":
        return tuple(2 * length - 1 for length in size)
    sides = parse_size(text, "bench: scope", most=3)
    return sides * len(size) if len(sides) == 1 else sides
