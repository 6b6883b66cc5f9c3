"""The attention form in Triton kernels: neither lambdas nor scores are written to memory."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, describe
from lambdanets.functional._layout import empty_in_order_of
from lambdanets.functional._triton import (
    SMALLEST_DEPTH,
    acc_dtype,
    cannot_launch,
    input_precision,
    kernel_rates,
    power_of_two,
)
from lambdanets.functional.position._maps import Arrangement, lift, lift_sizes
from lambdanets.functional.position._tiles import (
    INTERPRETER,
    KERNELS,
    Kernel,
    Tiles,
    blocks,
    context_tiles,
    grid,
    rule,
    tiles_for,
)

# What a program holds whole: more would not fit its registers.
LARGEST = {"heads": 64, "query_depth": 64, "value_depth": 256}

# Embeddings that one program of the last kernel sums up.
_FOLDED = 16

# Programs among which the sum of the table's gradient is split: some for each multiprocessor.
PROGRAMS = 512


class _Call(NamedTuple):
    """What all kernels of a call are given.

    Attributes:
        problem: For the choice of tiles.
        embeddings: The table by offset, k last.
        geometry: size, depths, reach, as the kernels name them.
        constants: Powers of two, precision.
        gpu: The device's name.
        tiles: In the place of those for the device.
    """

    problem: Problem
    embeddings: Float[Tensor, "u slices rows columns k"]
    geometry: tuple[tuple[int, ...], ...]
    constants: dict[str, Any]
    gpu: str
    tiles: Tiles | None

    def tiles_of(self, kernel: Kernel) -> Tiles:
        """What a kernel of this call works on at once."""
        return self.tiles or tiles_for(kernel, self.problem, self.gpu)


def run(
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    workspace: int,
    shared: Float[Tensor, "b k v"] | None = None,
    tiles: Tiles | None = None,
) -> Float[Tensor, "b h v *size"]:
    """s = q e and y = s v, for tiles of queries and context; `shared` is added to every lambda."""
    call, queries = _prepare(queries, values, table, tiles, backward=False), queries.to(values.dtype)
    output = empty_in_order_of(queries, queries.shape[1], values.shape[2])
    _launch("output", call, queries, values, output, shared)
    return output


def gradients(
    grad_out: Float[Tensor, "b h v *size"],
    queries: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b u v *size"],
    table: Float[Tensor, "u k *scope"],
    needs_grad: Sequence[bool],
    workspace: int,
    shared: Float[Tensor, "b k v"] | None = None,
    tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dv = sᵀ dy; of ds = dy vᵀ, dq = ds e and de = dsᵀ q, which is summed over the pairs of an offset."""
    call = _prepare(queries, values, table, tiles, backward=True)
    grad_out, queries = grad_out.to(values.dtype), queries.to(values.dtype)
    grad_queries, grad_values, grad_table = (values.new_empty(0) for _ in range(3))
    if needs_grad[0]:
        grad_queries = empty_in_order_of(queries, *queries.shape[1:3])
        _launch("queries_gradient", call, grad_out, values, grad_queries, shared)
    if needs_grad[1]:
        grad_values = empty_in_order_of(values, *values.shape[1:3])
        _launch("values_gradient", call, grad_out, queries, grad_values)
    if needs_grad[2]:
        maps = [lift(one) for one in (grad_out, queries, values)]
        grad_table = _grad_table(call, maps, workspace).reshape(table.shape)
    return grad_queries, grad_values, grad_table


def _prepare(queries: Tensor, values: Tensor, table: Tensor, tiles: Tiles | None, *, backward: bool) -> _Call:
    problem = describe(queries, values, table, backward=backward)
    h, k, u, v = problem.heads, problem.query_depth, problem.intra_depth, problem.value_depth
    layout = Arrangement(lift_sizes(problem.size), lift_sizes(problem.scope))
    embeddings = layout.table(table.to(values.dtype)).movedim(1, -1).contiguous()
    geometry = ((problem.batch, *layout.size), (h, k, v, u), tuple(side // 2 for side in layout.scope))
    constants = {
        "BLOCK_H": power_of_two(h),
        "BLOCK_K": power_of_two(k, SMALLEST_DEPTH),
        "PRECISION": input_precision(),
        "ACC": acc_dtype(values.dtype),
    }
    return _Call(problem, embeddings, geometry, constants, device_name(values.device), tiles)


@cache
def device_name(device: torch.device) -> str:
    """Under which tiles are kept for a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else INTERPRETER


def _launch(
    kernel: Kernel, call: _Call, first: Tensor, second: Tensor, output: Tensor, shared: Tensor | None = None
) -> None:
    """One program for each block of the result, and for each part of its channels."""
    if not call.problem.batch:
        return
    tiles = call.tiles_of(kernel)
    first, second, out = lift(first), lift(second), lift(output)
    lambdas: list[Tensor | None] = []
    if kernel != "values_gradient":
        lambdas = [None if shared is None else shared.to(out.dtype)]
    tensors = (first, second, call.embeddings, *lambdas, out)
    s_strides = ((0, 0, 0) if one is None else one.stride() for one in lambdas)
    strides = (first.stride(), second.stride(), *s_strides, out.stride())
    span = context_tiles(call.problem, tiles.own(kernel), tiles.other(kernel))
    arguments = (*tensors, *call.geometry, *span, *strides)
    start(f"{kernel}_kernel", grid(kernel, call.problem, tiles), arguments, _constants(call, tiles))


def _constants(call: _Call, tiles: Tiles) -> dict[str, Any]:
    return {
        "BLOCK_L": tiles.lines,
        "BLOCK_M": tiles.columns,
        "BLOCK_N": tiles.context,
        "BLOCK_V": tiles.channels,
        "BY_IMAGE": tiles.by_image,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
        **call.constants,
    }


def start(
    kernel: str, programs: tuple[int, ...], arguments: Sequence[Any], constants: dict[str, Any]
) -> None:
    """Launch one kernel, on the device of its first tensor; Triton is imported when the first is."""
    from lambdanets.functional.position import _triton_kernels

    with torch.cuda.device_of(arguments[0]):
        getattr(_triton_kernels, kernel)[programs](*arguments, **constants)


def _grad_table(call: _Call, maps: list[Tensor], workspace: int) -> Float[Tensor, "u k slices rows columns"]:
    """In parts that fit the workspace, added in their order."""
    u, *lines, columns, k = call.embeddings.shape
    if not call.problem.batch:
        return torch.zeros_like(call.embeddings).movedim(-1, 1)
    tiles = call.tiles_of("table_gradient")
    first, count = context_tiles(call.problem, tiles.columns, tiles.context)
    sums = maps[0].new_empty(0, dtype=torch.promote_types(maps[0].dtype, torch.float32))
    offsets, block = u * math.prod(lines), (tiles.columns, call.constants["BLOCK_K"], tiles.context)
    bytes_each = offsets * count * math.prod(block) * sums.element_size()
    wanted = 2 if call.gpu == INTERPRETER else -(-PROGRAMS // (offsets * count))
    parts = max(1, min(wanted, workspace // bytes_each, blocks(call.problem, call.problem.size[-1], tiles)))
    partial = sums.new_empty(offsets * count, parts, *block)
    arguments = (*maps, partial, *call.geometry, first, count, *(one.stride() for one in maps))
    start("table_gradient_kernel", (offsets * count, parts), arguments, _constants(call, tiles))
    folded = sums.new_empty(u, *lines, columns, k)
    constants = {"BLOCK_M": tiles.columns, "BLOCK_N": tiles.context, "BLOCK_R": _FOLDED}
    constants |= {name: call.constants[name] for name in ("BLOCK_K", "ACC")}
    arguments = (partial, folded, k, columns // 2, first, count, parts)
    start("fold_kernel", (offsets, -(-columns // _FOLDED)), arguments, constants)
    return folded.movedim(-1, 1)


def why_not(problem: Problem) -> str | None:
    """What it needs of the device, and depths that a program can hold."""
    for name, most in LARGEST.items():
        if getattr(problem, name) > most:
            return f"needs {name} of {most} or less, got {getattr(problem, name)}"
    return cannot_launch(problem)


def cost(problem: Problem) -> float:
    """2·b·u·h·(k + v) for each pair of a tile, everything read once."""
    device, b = kernel_rates(problem.device), problem.batch
    h, k, u, v = problem.heads, problem.query_depth, problem.intra_depth, problem.value_depth
    tiles = rule("output", problem)
    _, count = context_tiles(problem, tiles.columns, tiles.context)
    rows = math.prod(
        min(scope, size) for scope, size in zip(problem.reachable_scope[:-1], problem.size[:-1], strict=True)
    )
    pairs = problem.positions * rows * min(count, -(-problem.size[-1] // tiles.context)) * tiles.context
    heads, depth = power_of_two(h), power_of_two(k, SMALLEST_DEPTH)
    effort = (3 * depth + 3 * v) if problem.backward else (depth + v)
    moved = problem.item_bytes * b * problem.positions * (h * k + u * v + h * v)
    launches = len(KERNELS) + 2 if problem.backward else 2
    return (
        2 * b * u * pairs * heads * effort / device.product_flops
        + (4 if problem.backward else 1) * moved / device.bytes
        + launches * device.launch_seconds
    )


IMPLEMENTATION = Implementation("triton", why_not, cost, run, gradients, adds_shared=True)
