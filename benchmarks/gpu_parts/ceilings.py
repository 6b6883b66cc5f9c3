"""What the device can do, measured: copies, matrix products, and the peers' convolutions."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from problems import QUERY_DEPTH, STAGE_SHAPES, Shape
from torch import Tensor

from gpu_parts.clock import Row
from gpu_parts.session import Bench, Item

CONVOLUTIONS = (*STAGE_SHAPES, Shape(32, 128, 9))
TINY_CONVOLUTIONS = (Shape(5, 16, 3),)


def items(bench: Bench) -> list[Item]:
    """Ceilings first, then the open questions of convolutions and of short products."""
    shapes = CONVOLUTIONS if bench.is_cuda and not bench.rehearse else TINY_CONVOLUTIONS
    images = 128 if bench.is_cuda and not bench.rehearse else 2
    return [
        Item("copy", functools.partial(copy, bench)),
        Item("matrix product, bfloat16", functools.partial(product, bench)),
        Item("batched product, k=16", functools.partial(short_products, bench)),
        *(
            Item(
                f"conv{axes}d {shape.name} b={images}",
                functools.partial(convolution, bench, shape, images, axes),
            )
            for shape in shapes
            for axes in (2, 3)
        ),
    ]


def normal(bench: Bench, *size: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Random numbers on the device."""
    return torch.randn(size, device=bench.device, dtype=dtype)


def copy(bench: Bench) -> Row:
    """Bytes read and bytes written, of a copy much larger than the caches."""
    count = bench.sizes.copied_bytes // 2
    source, target = normal(bench, count), normal(bench, count)
    row = bench.clock.race({"copy": lambda: target.copy_(source)})["copy"]
    return row | {"gb_per_s": 4 * count / row["median_ms"] / 1e6}


def product(bench: Bench) -> Row:
    """A square product."""
    side = bench.sizes.matrix
    first, second = normal(bench, side, side), normal(bench, side, side)
    row = bench.clock.race({"product": lambda: first @ second})["product"]
    return row | {"tflop_per_s": 2 * side**3 / row["median_ms"] / 1e9}


def short_products(bench: Bench) -> dict[str, Row]:
    """Products that sum 16 numbers, as scores of all pairs are made; dense and with rows apart."""
    batch, rows, columns = (196, 512, 196) if not bench.rehearse else (4, 16, 9)
    dense, right = normal(bench, batch, rows, 16), normal(bench, batch, 16, columns)
    apart = normal(bench, rows, batch, 16).transpose(0, 1)
    found = bench.clock.race({"dense": lambda: dense @ right, "rows apart": lambda: apart @ right})
    moved = 2 * batch * (rows * 16 + 16 * columns + rows * columns)
    return {name: row | _rate("gb_per_s", moved / 1e9, row) for name, row in found.items()}


def convolution(bench: Bench, shape: Shape, images: int, axes: int) -> dict[str, Any]:
    """The peers' convolution of one channel with k kernels: output and both gradients.

    By two axes the value depth is folded into the batch; by three it is an axis, as `lambda-networks` and
    timm have it. The rate counts what a convolution with zeros around the map multiplies.
    """
    v, side, r = shape.value_depth, shape.side, shape.table_side
    folded = axes == 2
    values = normal(bench, *((images * v, 1) if folded else (images, 1, v)), side, side)
    kernel = normal(bench, QUERY_DEPTH, 1, *(() if folded else (1,)), r, r)
    padding = [r // 2] * 2 if folded else [0, r // 2, r // 2]
    flops = 2 * images * v * QUERY_DEPTH * shape.positions * r * r
    result: dict[str, Any] = {}
    for dtype in (torch.bfloat16, torch.float32):
        calls = _convolution_calls(values.to(dtype), kernel.to(dtype), padding)
        name = "bfloat16" if dtype == torch.bfloat16 else "float32 (tf32 if torch lets it)"
        rows = bench.clock.race(calls)
        result[name] = {key: row | _rate("tflop_per_s", flops / 1e12, row) for key, row in rows.items()}
    return result


def _convolution_calls(values: Tensor, kernel: Tensor, padding: list[int]) -> dict[str, Callable[[], object]]:
    ones, zeros = [1] * len(padding), [0] * len(padding)

    def forward() -> Tensor:
        return torch.convolution(values, kernel, None, ones, padding, ones, False, zeros, 1)

    gradient = torch.randn_like(forward())

    def gradients(mask: list[bool]) -> object:
        return torch.ops.aten.convolution_backward(
            gradient, values, kernel, None, ones, padding, ones, False, zeros, 1, mask
        )

    return {
        "forward": forward,
        "of values": functools.partial(gradients, [True, False, False]),
        "of kernel": functools.partial(gradients, [False, True, False]),
    }


def _rate(name: str, amount: float, row: Row) -> dict[str, float]:
    return {name: 1e3 * amount / row["median_ms"]} if "median_ms" in row else {}
