"""Faster tiles for the kernels, by search; what to add to its table comes last."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from problems import NUM_HEADS, QUERY_DEPTH

from gpu_parts.session import Bench, Item
from gpu_parts.sizes import Case
from gpu_parts.tile_search import candidates, tune
from lambdanets.functional._dispatch import Problem, default_workspace
from lambdanets.functional.position import triton
from lambdanets.functional.position._tiles import KERNELS, Kernel, bucket

# Of each kernel at each shape; those that are nearest to the rule's.
MOST: Final = 24
SECONDS: Final = 30.0


def items(bench: Bench) -> list[Item]:
    """Every case with tiles of its own; each kernel's candidates are compiled by themselves."""
    made, seen = [], set()
    for case in bench.sizes.cases:
        problem = problem_of(bench, case)
        names = {bucket(kernel, problem) for kernel in KERNELS}
        if names <= seen:
            continue
        seen |= names
        warm = tuple(functools.partial(compile_all, bench, problem, kernel) for kernel in KERNELS)
        made.append(Item(case.name, functools.partial(search, bench, problem), warm))
    return made


def problem_of(bench: Bench, case: Case) -> Problem:
    """As the tuner wants it."""
    shape, device = case.shape, bench.device.type
    problem = Problem(
        operation="position_output",
        batch=case.batch,
        heads=NUM_HEADS,
        query_depth=QUERY_DEPTH,
        intra_depth=1,
        value_depth=shape.value_depth,
        size=(shape.side,) * 2,
        scope=(shape.table_side,) * 2,
        dtype=torch.bfloat16,
        device=device,
        backward=False,
        workspace=default_workspace(device),
    )
    return problem._replace(scope=problem.reachable_scope)


def most(bench: Bench) -> int:
    """In a rehearsal each takes seconds."""
    return 1 if bench.rehearse else MOST


def search(bench: Bench, problem: Problem) -> dict[str, Any]:
    """The fastest tiles of all kernels at one shape."""
    found = tune(problem, seconds=SECONDS, most=most(bench))
    return {
        one.bucket: {
            "tiles": one.tiles._asdict(),
            "ms": one.milliseconds,
            "rule_ms": one.rule_milliseconds,
            "tried": one.tried,
            "failed": one.failed,
        }
        for one in found
    }


def compile_all(bench: Bench, problem: Problem, kernel: Kernel) -> None:
    """Run each candidate once, so that the compiler has it when it is timed."""
    queries, values, gradient = (
        torch.randn(
            problem.batch, *problem.size, heads, depth, dtype=problem.dtype, device=bench.device
        ).movedim((-2, -1), (1, 2))
        for heads, depth in (
            (problem.heads, problem.query_depth),
            (1, problem.value_depth),
            (problem.heads, problem.value_depth),
        )
    )
    table = torch.randn(1, problem.query_depth, *problem.scope, device=bench.device)
    needed = [kernel.startswith(name) for name in ("queries", "values", "table")]
    for tiles in candidates(kernel, problem)[: most(bench)]:
        try:
            if kernel == "output":
                triton.run(queries, values, table, problem.workspace, tiles=tiles)
            else:
                triton.gradients(gradient, queries, values, table, needed, problem.workspace, tiles=tiles)
        except TimeoutError:
            raise
        # The tuner counts those that do not fit.
        except Exception as error:
            print(f"{kernel} {tiles}: {type(error).__name__}")


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Rows for the table of tiles, of what is faster than the rule by more than the times spread."""
    for row in results.values():
        if not isinstance(row, dict):
            continue
        for name, one in row.items():
            rule = one["rule_ms"]
            if rule is None or one["ms"] < 0.97 * rule:
                tiles = ", ".join(str(value) for value in one["tiles"].values())
                gain = "the rule's do not run" if rule is None else f"{rule / one['ms']:.2f}x the rule's"
                yield f'    "{name}": Tiles({tiles}),  # {one["ms"]:.3f} ms, {gain}'
