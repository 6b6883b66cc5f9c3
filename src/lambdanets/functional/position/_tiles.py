"""Sizes of the tiles that Triton's kernels work on: a rule for every call, and what was measured faster."""

import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from lambdanets.functional._dispatch import Problem
from lambdanets.functional._triton import SMALLEST_DEPTH, power_of_two
from lambdanets.functional.position._maps import lift_sizes

Kernel = Literal["output", "values_gradient", "queries_gradient", "table_gradient"]

KERNELS: Final[tuple[Kernel, ...]] = ("output", "values_gradient", "queries_gradient", "table_gradient")

# Rows of a tile, which are lines by columns by heads, for numbers of two bytes.
_ROWS: Final = 256

# The fewest programs that fill a GPU; with fewer, smaller tiles are faster.
FULL: Final = 256

# The device's name where kernels run in Python, to which every program is a cost.
INTERPRETER: Final = "interpreter"


class Tiles(NamedTuple):
    """What one program works on.

    Attributes:
        lines: Rows of a map, or the same row of so many images.
        columns: Columns of queries.
        context: Columns of context.
        channels: Value channels.
        warps: Groups of 32 threads.
        stages: Steps whose loads are under way at once.
        by_image: Whether the lines are of different images.
    """

    lines: int
    columns: int
    context: int
    channels: int
    warps: int = 8
    stages: int = 2
    by_image: bool = False

    def own(self, kernel: Kernel) -> int:
        """Columns whose result a program makes."""
        return self.context if kernel == "values_gradient" else self.columns

    def other(self, kernel: Kernel) -> int:
        """Columns of the tiles it goes through."""
        return self.columns if kernel == "values_gradient" else self.context


# Measured faster than the rule, by GPU and `bucket`, as `benchmarks/gpu.py --tune` prints them. No GPU was
# measured yet.
TUNED: Final[Mapping[str, Mapping[str, Tiles]]] = {}


def tiles_for(kernel: Kernel, problem: Problem, gpu: str) -> Tiles:
    """The tiles of a call: those measured on this GPU, or the rule's.

    A call too small to fill a GPU takes smaller ones of the same columns, so that its sums keep their order.
    """
    measured = TUNED.get(gpu, {}).get(bucket(kernel, problem))
    return _shrink(kernel, problem, measured or rule(kernel, problem), 1 if gpu == INTERPRETER else FULL)


def bucket(kernel: Kernel, problem: Problem) -> str:
    """Calls that take the same tiles, whatever their batch and height."""
    columns, reach = _columns_and_reach(problem)
    return (
        f"{kernel}-{8 * problem.item_bytes}bit-columns{power_of_two(min(columns, 64))}"
        f"-reach{power_of_two(min(reach, 64) + 1)}-h{problem.heads}-k{problem.query_depth}"
        f"-v{power_of_two(problem.value_depth)}"
    )


def rule(kernel: Kernel, problem: Problem) -> Tiles:
    """Tiles for a call that fills a GPU, from its sizes and its type alone."""
    heads, channels = power_of_two(problem.heads), power_of_two(problem.value_depth, SMALLEST_DEPTH)
    columns, context = _widths(kernel, problem)
    if kernel in ("output", "values_gradient"):
        channels = min(channels, 32 if columns == 32 else 64)
    rows = _ROWS * 2 // problem.item_bytes * 64 // max(64, channels)
    lines = min(8, max(1, rows // (columns * heads)))
    # Below 16 lines by heads the products of a column are padded, and so is the sum of the table's gradient.
    if kernel == "table_gradient" or columns == 32:
        lines = max(lines, SMALLEST_DEPTH // heads)
    by_image = problem.batch >= lines and (lift_sizes(problem.size)[1] <= 16 or kernel == "table_gradient")
    stages = 1 if kernel == "values_gradient" else 2
    return _with_warps(Tiles(lines, columns, context, channels, stages=stages, by_image=by_image), problem)


def _widths(kernel: Kernel, problem: Problem) -> tuple[int, int]:
    """Columns of queries and of context: whole rows where they are short, else a part and its reach."""
    width, reach = _columns_and_reach(problem)
    if kernel == "values_gradient":
        # It loads queries and gradients in each step: small tiles leave room for more programs.
        columns = max(4, power_of_two(width)) if width <= 16 else 8
        return max(columns, SMALLEST_DEPTH // power_of_two(problem.heads)), 16
    if width <= 16:
        return max(4, power_of_two(width)), 16
    if width <= 32 and reach >= 9 and problem.value_depth <= 32 and problem.item_bytes == 2:
        return 32, 32
    return 8, 16 if 8 + 2 * reach <= 16 else 32


def _shrink(kernel: Kernel, problem: Problem, tiles: Tiles, fewest: int) -> Tiles:
    """Halve the channels, then the lines, until there are programs enough."""
    if kernel == "table_gradient":
        return tiles
    smaller = tiles
    while math.prod(grid(kernel, problem, smaller)) < fewest:
        if kernel != "queries_gradient" and smaller.channels > SMALLEST_DEPTH:
            smaller = smaller._replace(channels=smaller.channels // 2)
        elif smaller.lines > 1:
            smaller = smaller._replace(lines=smaller.lines // 2)
        else:
            break
    return tiles if smaller == tiles else _with_warps(smaller, problem)


def _with_warps(tiles: Tiles, problem: Problem) -> Tiles:
    held = tiles.lines * tiles.columns * power_of_two(problem.heads) * max(tiles.channels, tiles.context)
    return tiles._replace(warps=8 if held >= 8192 else 4)


def grid(kernel: Kernel, problem: Problem, tiles: Tiles) -> tuple[int, ...]:
    """Programs of a launch: blocks, parts of the value channels, parts of the intra-depth."""
    counts = [blocks(problem, tiles.own(kernel), tiles)]
    if kernel in ("output", "values_gradient"):
        counts.append(-(-problem.value_depth // tiles.channels))
    if kernel == "values_gradient":
        counts.append(problem.intra_depth)
    return tuple(counts)


def blocks(problem: Problem, width: int, tiles: Tiles) -> int:
    """Blocks of lines and columns that cover all maps."""
    slices, rows, columns = lift_sizes(problem.size)
    if tiles.by_image:
        lines = -(-problem.batch // tiles.lines) * slices * rows
    else:
        lines = problem.batch * slices * -(-rows // tiles.lines)
    return lines * -(-columns // width)


def context_tiles(problem: Problem, own: int, other: int) -> tuple[int, int]:
    """The first of the tiles of the other side's columns, from a program's first column, and their number."""
    columns, reach = _columns_and_reach(problem)
    if own >= columns:
        return 0, -(-columns // other)
    return -reach, -(-(own + 2 * reach) // other)


def _columns_and_reach(problem: Problem) -> tuple[int, int]:
    return problem.size[-1], problem.reachable_scope[-1] // 2
