"""`position_output` by every implementation: forward, backward, both; single images; the rates."""

import functools
from typing import Any, Final, NamedTuple

import torch
from harness import Call, Result, reason
from ops import PEERS, Operator, Tensors, conv3d_form, einsum_form, implementations, infer
from shapes import NUM_HEADS, QUERY_DEPTH, Case, Shape
from torch import Tensor

from gpu_parts.session import Bench, Item, graphs
from lambdanets.functional import position_output
from lambdanets.functional._layout import channels_last
from lambdanets.functional.position import pairs_in_bounds

# An implementation whose step is estimated to take longer is left out.
LONGEST_SECONDS: Final = 0.5
# Bytes of a number in float16 or bfloat16.
ITEM_BYTES: Final = 2
# The item that measures the device's own rates.
RATES: Final = "copy and matrix product"


def items(bench: Bench) -> list[Item]:
    """The device's rates, steps of all cases, then inference with few images."""
    made = [Item(RATES, functools.partial(rates, bench))]
    for measure, cases in ((steps, bench.sizes.cases), (inference, bench.sizes.small)):
        prefix = "inference " if measure is inference else ""
        made += [
            Item(
                f"{prefix}{case.name}",
                functools.partial(measure, bench, case),
                (functools.partial(warm, bench, case),),
            )
            for case in cases
        ]
    return made


def rates(bench: Bench) -> Result:
    """A copy much larger than the caches and a square product: what the device can do."""
    side, count = bench.sizes.matrix, bench.sizes.copied_bytes // ITEM_BYTES
    normal = functools.partial(torch.randn, device=bench.device, dtype=torch.bfloat16)
    first, second, source, target = normal(side, side), normal(side, side), normal(count), normal(count)
    rows = bench.race({"product": lambda: first @ second, "copy": lambda: target.copy_(source)})
    rows["product"]["tflop_per_s"] = 2 * side**3 / rows["product"]["median_ms"] / 1e9
    rows["copy"]["gb_per_s"] = 2 * ITEM_BYTES * count / rows["copy"]["median_ms"] / 1e6
    return rows


def make(bench: Bench, case: Case) -> tuple[Tensors, Tensor]:
    """Random queries, values, a table and the gradient of the output, in bfloat16 with channels last."""
    shape, side = case.shape, case.shape.table_side
    maps = [
        channels_last(torch.randn(case.batch, heads, depth, shape.side, shape.side, device=bench.device))
        for heads, depth in ((NUM_HEADS, QUERY_DEPTH), (1, shape.value_depth), (NUM_HEADS, shape.value_depth))
    ]
    table = torch.randn(1, QUERY_DEPTH, side, side, device=bench.device) * (QUERY_DEPTH * side**2) ** -0.5
    queries, values, gradient, table = (one.to(torch.bfloat16) for one in (*maps, table))
    return (queries.requires_grad_(), values.requires_grad_(), table.requires_grad_()), gradient


def warm(bench: Bench, case: Case) -> None:
    """Compile the kernels."""
    tensors, gradient = make(bench, case)
    torch.autograd.grad(position_output(*tensors, impl="triton"), tensors, gradient)


def operators(tensors: Tensors, shape: Shape) -> tuple[dict[str, Operator], Result]:
    """Ours by name and the peers' formula; what `auto` takes in each direction, and the estimates."""
    able, notes = implementations(tensors, LONGEST_SECONDS)
    able["triton"] = functools.partial(position_output, impl="triton")
    return able | {PEERS: conv3d_form if shape.scope else einsum_form}, notes


def steps(bench: Bench, case: Case) -> Result:
    """Times in each direction, memory of both, and rates in in-bounds work."""
    tensors, gradient = make(bench, case)
    able, notes = operators(tensors, case.shape)
    result: Result = {"group": case.group, "notes": notes, "peak_bytes": {}}
    for direction, work in WORK.items():
        calls = {name: _call(direction, operator, tensors, gradient) for name, operator in able.items()}
        result[direction] = bench.race(calls)
        add_rates(bench, result[direction], work(case.shape, case.batch))
        del calls
    for name, operator in able.items():
        if "median_ms" in result["both"][name]:
            try:
                peak = bench.clock.peak_bytes(_call("both", operator, tensors, gradient))
            except Exception as error:
                peak = f"failed: {reason(error)}"
            result["peak_bytes"][name] = peak
    return result


def _call(direction: str, operator: Operator, tensors: Tensors, gradient: Tensor) -> Call:
    kept: list[Tensor] = []

    def backward() -> None:
        # The first call, which is not timed, makes the output.
        if not kept:
            kept.append(operator(*tensors))
        torch.autograd.grad(kept[0], tensors, gradient, retain_graph=True)

    def both() -> None:
        torch.autograd.grad(operator(*tensors), tensors, gradient)

    return {"forward": functools.partial(infer, operator, tensors), "backward": backward, "both": both}[
        direction
    ]


def inference(bench: Bench, case: Case) -> Result:
    """Eager, and from a CUDA graph, which leaves out what Python costs."""
    tensors, _ = make(bench, case)
    able, notes = operators(tensors, case.shape)
    calls: dict[str, Call] = {
        name: functools.partial(infer, operator, tensors) for name, operator in able.items()
    }
    result: Result = {"group": case.group, "notes": notes, "forward": bench.race(calls)}
    if bench.is_cuda:
        if case.shape.scope is None:
            # Their index of offsets comes from the CPU, which a graph does not allow.
            del calls[PEERS]
        result["graph"] = bench.race(graphs(calls, notes))
    for kind in ("forward", "graph"):
        add_rates(bench, result.get(kind, {}), forward_work(case.shape, case.batch))
    return result


class Work(NamedTuple):
    """Operations, a multiply-add for two, of the cheaper order of the products; every tensor moved once."""

    flops: float
    bytes: float


def forward_work(shape: Shape, batch: int) -> Work:
    """Scores of all pairs and their sums of values, or lambdas and their products with queries."""
    h, k, v, n = NUM_HEADS, QUERY_DEPTH, shape.value_depth, shape.positions
    pairs = pairs_in_bounds((shape.side,) * 2, (shape.table_side,) * 2)
    scores_first = 2 * pairs * h * (k + v)
    lambdas_first = 2 * pairs * k * v + 2 * n * h * k * v
    moved = ITEM_BYTES * (batch * n * (h * k + v + h * v) + k * shape.table_side**2)
    return Work(batch * min(scores_first, lambdas_first), moved)


def backward_work(shape: Shape, batch: int) -> Work:
    """Scores and lambdas are made again, as they are not kept."""
    h, k, v, n = NUM_HEADS, QUERY_DEPTH, shape.value_depth, shape.positions
    pairs = pairs_in_bounds((shape.side,) * 2, (shape.table_side,) * 2)
    scores_first = 2 * pairs * h * (2 * v + 3 * k)
    lambdas_first = 6 * pairs * k * v + 4 * n * h * k * v
    moved = ITEM_BYTES * (batch * n * (2 * h * k + 2 * v + h * v) + 2 * k * shape.table_side**2)
    return Work(batch * min(scores_first, lambdas_first), moved)


def step_work(shape: Shape, batch: int) -> Work:
    """Both, one after the other."""
    pairs = zip(forward_work(shape, batch), backward_work(shape, batch), strict=True)
    return Work(*map(sum, pairs))


WORK: Final = {"forward": forward_work, "backward": backward_work, "both": step_work}


def add_rates(bench: Bench, rows: dict[str, Result], work: Work) -> None:
    """Rates in in-bounds work, and the time over the least one, where the device's rates are known."""
    device: Any = bench.results.get("operator", {}).get(RATES)
    for row in rows.values():
        if "median_ms" in row:
            seconds = row["median_ms"] / 1e3
            row |= {"tflop_per_s": work.flops / seconds / 1e12, "gb_per_s": work.bytes / seconds / 1e9}
            if isinstance(device, dict):
                products, copies = device["product"]["tflop_per_s"], device["copy"]["gb_per_s"]
                least = max(work.flops / (products * 1e12), work.bytes / (copies * 1e9))
                row |= {"least_ms": 1e3 * least, "over_least": seconds / least}
