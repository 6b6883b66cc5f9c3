"""The fastest tiles of the Triton kernels at one shape, by timing those that are near the rule's."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

import torch
from torch import Tensor

from lambdanets.functional._dispatch import Problem
from lambdanets.functional._triton import SMALLEST_DEPTH, power_of_two
from lambdanets.functional.position import triton
from lambdanets.functional.position._tiles import KERNELS, Kernel, Tiles, bucket, rule

# Bytes of the largest tile that is tried: more does not fit a program's registers.
LARGEST_TILE: Final = 65536

# Times that a candidate runs before and while it is timed.
WARM, TIMED = 2, 5


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The fastest tiles of one kernel at one shape.

    Attributes:
        kernel: Which of the four.
        bucket: The calls that will take these tiles.
        tiles: The fastest.
        milliseconds: Their median.
        rule_milliseconds: That of the tiles that the rule gives, None where those cannot run.
        tried: How many candidates ran.
        failed: How many did not compile or did not fit.
    """

    kernel: Kernel
    bucket: str
    tiles: Tiles
    milliseconds: float
    rule_milliseconds: float | None
    tried: int
    failed: int


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


def tune(problem: Problem, *, seconds: float = 60.0, most: int | None = None) -> list[Tuned]:
    """Time candidates of every kernel at one shape.

    Args:
        problem: Sizes, with the device to run on; its direction is not read.
        seconds: For all four kernels together; the rule's tiles are always timed.
        most: Candidates of each kernel at most.
    """
    problem = problem._replace(scope=problem.reachable_scope)
    found = []
    for kernel, call in _calls(problem).items():
        end = time.monotonic() + seconds / len(KERNELS)
        found.append(_fastest(kernel, problem, call, end, most))
    return found


def _fastest(
    kernel: Kernel, problem: Problem, call: Callable[[Tiles], object], end: float, most: int | None
) -> Tuned:
    times: dict[Tiles, float] = {}
    failed = 0
    tried = candidates(kernel, problem)[:most]
    for tiles in tried:
        if times and time.monotonic() > end:
            break
        try:
            times[tiles] = _median_ms(call, tiles, problem.device)
        # What a compiler or a driver says of tiles that do not fit differs from version to version.
        except Exception:
            failed += 1
    if not times:
        raise RuntimeError(f"no tiles of {kernel} run at this shape")
    fastest = min(times, key=times.__getitem__)
    return Tuned(
        kernel=kernel,
        bucket=bucket(kernel, problem),
        tiles=fastest,
        milliseconds=times[fastest],
        rule_milliseconds=times.get(tried[0]),
        tried=len(times),
        failed=failed,
    )


def _calls(problem: Problem) -> dict[Kernel, Callable[[Tiles], object]]:
    """A call that runs each kernel alone, with random numbers and channels last."""
    b, h, k, v = problem.batch, problem.heads, problem.query_depth, problem.value_depth

    def rows(c: int, d: int) -> Tensor:
        numbers = torch.randn(b, *problem.size, c, d, dtype=problem.dtype, device=problem.device)
        return numbers.movedim((-2, -1), (1, 2))

    queries, values, gradient = rows(h, k), rows(problem.intra_depth, v), rows(h, v)
    table = torch.randn(problem.intra_depth, k, *problem.scope, device=problem.device)

    def backward(*needs_grad: bool) -> Callable[[Tiles], object]:
        return lambda tiles: triton.gradients(
            gradient, queries, values, table, needs_grad, problem.workspace, tiles=tiles
        )

    return {
        "output": lambda tiles: triton.run(queries, values, table, problem.workspace, tiles=tiles),
        "values_gradient": backward(False, True, False),
        "queries_gradient": backward(True, False, False),
        "table_gradient": backward(False, False, True),
    }


def _median_ms(call: Callable[[Tiles], object], tiles: Tiles, device: str) -> float:
    for _ in range(WARM):
        call(tiles)
    elapsed = _on_gpu if device == "cuda" else _on_cpu
    return sorted(elapsed(lambda: call(tiles)) for _ in range(TIMED))[TIMED // 2]


def _on_gpu(call: Callable[[], object]) -> float:
    """Milliseconds of the device's own clock: those of the launch are not counted."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def _on_cpu(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)
