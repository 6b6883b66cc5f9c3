"""Faster tiles for the kernels, by timing those that are near the rule's; rows for the package's table."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, Final

import torch
from harness import Call, Result
from shapes import NUM_HEADS, QUERY_DEPTH, Case
from torch import Tensor

from gpu_parts.session import Bench, Item
from lambdanets.functional._dispatch import Problem, default_workspace
from lambdanets.functional._triton import SMALLEST_DEPTH, power_of_two
from lambdanets.functional.position import triton
from lambdanets.functional.position._tiles import KERNELS, Kernel, Tiles, bucket, rule

# Candidates of each kernel at each shape; those that are nearest to the rule's.
MOST: Final = 24
# Seconds of all candidates of the four kernels at one shape.
SECONDS: Final = 30.0
# Bytes of the largest tile that is tried: more does not fit a program's registers.
LARGEST_TILE: Final = 65536
# Times of each candidate.
REPEATS: Final = 5


def items(bench: Bench) -> list[Item]:
    """Every case with tiles of its own; each kernel's candidates are compiled by themselves."""
    made, seen = [], set()
    for case in bench.sizes.cases:
        problem = problem_of(bench.device.type, case)
        names = {bucket(kernel, problem) for kernel in KERNELS}
        if names <= seen:
            continue
        seen |= names
        warm = tuple(functools.partial(compile_all, bench, problem, kernel) for kernel in KERNELS)
        made.append(Item(case.name, functools.partial(search, bench, problem), warm))
    return made


def problem_of(device: str, case: Case) -> Problem:
    """The case as a call in bfloat16."""
    shape = case.shape
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


def candidates(kernel: Kernel, problem: Problem) -> list[Tiles]:
    """Tiles worth trying on a GPU: the rule's first, then the others by how much they differ from it."""
    first = rule(kernel, problem)
    others = {tiles for tiles in _possible(kernel, problem, first.channels) if tiles != first}
    return [first, *sorted(others, key=lambda tiles: (_distance(first, tiles), tiles))]


def _possible(kernel: Kernel, problem: Problem, whole: int) -> Iterator[Tiles]:
    """Tiles that compile and may fit the registers; `whole` channels where a kernel needs all."""
    heads, width = power_of_two(problem.heads), problem.size[-1]
    depth = power_of_two(problem.value_depth, SMALLEST_DEPTH)
    parts = [one for one in (16, 32, 64, 128) if one <= depth]
    for lines, columns, context, channels in product(
        (1, 2, 4, 8, 16),
        [one for one in (8, 16, 32) if one < 2 * width] or [4],
        [one for one in (16, 32, 64) if one <= max(SMALLEST_DEPTH, 4 * width)],
        [whole] if kernel.startswith(("queries", "table")) else parts,
    ):
        rows, summed = lines * columns * heads, {"values_gradient": columns, "table_gradient": lines}
        fits = 64 <= rows <= 1024 and rows * max(channels, context) <= LARGEST_TILE // problem.item_bytes
        if fits and summed.get(kernel, SMALLEST_DEPTH) * heads >= SMALLEST_DEPTH:
            for warps, stages, by_image in product((4, 8), (1, 2, 3), (False, True)):
                if not by_image or lines <= problem.batch:
                    yield Tiles(lines, columns, context, channels, warps, stages, by_image)


def _distance(one: Tiles, other: Tiles) -> float:
    """Doublings of a side, and half as much for what does not change the tile."""
    sides = sum(abs(math.log2(a / b)) for a, b in zip(one[:4], other[:4], strict=True))
    unlike = (one.warps != other.warps) + abs(one.stages - other.stages) + (one.by_image != other.by_image)
    return sides + 0.5 * unlike


def search(bench: Bench, problem: Problem) -> Result:
    """The fastest tiles of each kernel at one shape, and how they compare with the rule's."""
    result = {}
    for kernel in KERNELS:
        end, times = time.monotonic() + SECONDS / len(KERNELS), {}
        run, failed = kernel_call(kernel, problem), 0
        tried = candidates(kernel, problem)[: most(bench)]
        for tiles in tried:
            if times and time.monotonic() > end:
                break
            try:
                calls: dict[str, Call] = {"kernel": functools.partial(run, tiles)}
                times[tiles] = bench.clock.race(calls, REPEATS)["kernel"]["median_ms"]
            except TimeoutError:
                raise
            # What a compiler or a driver says of tiles that do not fit differs from version to version.
            except Exception:
                failed += 1
        if not times:
            raise RuntimeError(f"no tiles of {kernel} run at this shape")
        fastest = min(times, key=times.__getitem__)
        result[bucket(kernel, problem)] = {
            "tiles": fastest._asdict(),
            "ms": times[fastest],
            "rule_ms": times.get(tried[0]),
            "tried": len(times),
            "failed": failed,
        }
    return result


def most(bench: Bench) -> int:
    """Candidates of a kernel; in a rehearsal each takes seconds."""
    return 1 if bench.rehearse else MOST


def kernel_call(kernel: Kernel, problem: Problem) -> Callable[[Tiles], object]:
    """A call that runs one kernel alone, with random numbers and channels last."""
    b, h, k, v = problem.batch, problem.heads, problem.query_depth, problem.value_depth

    def rows(c: int, d: int) -> Tensor:
        numbers = torch.randn(b, *problem.size, c, d, dtype=problem.dtype, device=problem.device)
        return numbers.movedim((-2, -1), (1, 2))

    queries, values, gradient = rows(h, k), rows(problem.intra_depth, v), rows(h, v)
    table = torch.randn(problem.intra_depth, k, *problem.scope, device=problem.device)
    if kernel == "output":
        return lambda tiles: triton.run(queries, values, table, problem.workspace, tiles=tiles)
    needs_grad = [kernel.startswith(name) for name in ("queries", "values", "table")]
    return lambda tiles: triton.gradients(
        gradient, queries, values, table, needs_grad, problem.workspace, tiles=tiles
    )


def compile_all(bench: Bench, problem: Problem, kernel: Kernel) -> None:
    """Run each candidate once, so that the compiler has it when it is timed."""
    run = kernel_call(kernel, problem)
    for tiles in candidates(kernel, problem)[: most(bench)]:
        try:
            run(tiles)
        except TimeoutError:
            raise
        # The search counts those that do not fit.
        except Exception as error:
            print(f"{kernel} {tiles}: {type(error).__name__}")


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Rows for the table of tiles, of what is faster than the rule by more than the times spread."""
    for row in results.values():
        if not isinstance(row, dict):
            continue
        for name, one in row.items():
            rule_ms = one["rule_ms"]
            if rule_ms is None or one["ms"] < 0.97 * rule_ms:
                tiles = ", ".join(str(value) for value in one["tiles"].values())
                gain = (
                    "the rule's do not run" if rule_ms is None else f"{rule_ms / one['ms']:.2f}x the rule's"
                )
                yield f'    "{name}": Tiles({tiles}),  # {one["ms"]:.3f} ms, {gain}'
