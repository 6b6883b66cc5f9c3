"""`position_output` by every implementation: forward, backward, both; and single images from a graph."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from ops import conv3d_form
from problems import NUM_HEADS, QUERY_DEPTH, Shape
from torch import Tensor

from gpu_parts.clock import graphs, reason
from gpu_parts.correctness import einsum_form, in_order
from gpu_parts.floor import WORK, achieved
from gpu_parts.session import Bench, Item
from gpu_parts.sizes import Case
from lambdanets.functional import position_output
from lambdanets.functional._dispatch import choose, default_workspace
from lambdanets.functional.position import IMPLEMENTATIONS, describe
from lambdanets.functional.relative_position import crop_table

Tensors = tuple[Tensor, Tensor, Tensor]
Form = Callable[..., Tensor]

# The peers' formula, and what it is called here.
PEERS = "peers' formula"

# A form whose step is estimated to take longer is left out.
LONGEST_SECONDS = 0.5


def items(bench: Bench) -> list[Item]:
    """Steps of all cases, then inference with few images."""
    return [
        *(
            Item(case.name, functools.partial(steps, bench, case), (functools.partial(warm, bench, case),))
            for case in bench.sizes.cases
        ),
        *(
            Item(
                f"inference {case.name}",
                functools.partial(inference, bench, case),
                (functools.partial(warm, bench, case),),
            )
            for case in bench.sizes.small
        ),
    ]


def make(bench: Bench, case: Case) -> tuple[Tensors, Tensor]:
    """Random queries, values, a table and the gradient of the output, in bfloat16 with channels last."""
    shape, side = case.shape, case.shape.table_side
    maps = [
        in_order(torch.randn(case.batch, heads, depth, shape.side, shape.side, device=bench.device))
        for heads, depth in ((NUM_HEADS, QUERY_DEPTH), (1, shape.value_depth), (NUM_HEADS, shape.value_depth))
    ]
    table = torch.randn(1, QUERY_DEPTH, side, side, device=bench.device) * (QUERY_DEPTH * side**2) ** -0.5
    queries, values, gradient, table = (one.to(torch.bfloat16) for one in (*maps, table))
    return (queries.requires_grad_(), values.requires_grad_(), table.requires_grad_()), gradient


def warm(bench: Bench, case: Case) -> None:
    """Compile the kernels."""
    tensors, gradient = make(bench, case)
    torch.autograd.grad(position_output(*tensors, impl="triton"), tensors, gradient)


def forms(tensors: Tensors, shape: Shape) -> tuple[dict[str, Form], dict[str, Any]]:
    """Ours by name and the peers'; what `auto` takes in each direction, and what is left out."""
    reachable = (*tensors[:2], crop_table(tensors[2], (2 * shape.side - 1,) * 2))
    workspace = default_workspace(tensors[0].device.type)
    directions = [describe(*reachable, backward=backward, workspace=workspace) for backward in (False, True)]
    notes: dict[str, Any] = {"auto": [choose(IMPLEMENTATIONS, one).name for one in directions]}
    found: dict[str, Form] = {"auto": position_output}
    for one in sorted(IMPLEMENTATIONS[1:], key=lambda one: one.name != "triton"):
        seconds = sum(map(one.cost, directions))
        if one.name != "triton" and seconds > LONGEST_SECONDS:
            notes[one.name] = f"left out: estimated to take {seconds:.1f} s"
        else:
            found[one.name] = functools.partial(position_output, impl=one.name)
    found[PEERS] = conv3d_form if shape.scope else einsum_form
    return found, notes


def steps(bench: Bench, case: Case) -> dict[str, Any]:
    """Times in each direction, memory of both, and rates in in-bounds work."""
    tensors, gradient = make(bench, case)
    able, notes = forms(tensors, case.shape)
    result: dict[str, Any] = {"group": case.group, "notes": notes}
    for direction, caller in (("forward", _forward), ("backward", _backward), ("both", _both)):
        calls = {name: caller(form, tensors, gradient) for name, form in able.items()}
        result[direction] = bench.clock.race(calls)
        del calls
        bench.clock.forget()
    result["peak_bytes"] = {
        name: _peak(bench, _both(form, tensors, gradient))
        for name, form in able.items()
        if "median_ms" in result["both"][name]
    }
    add_rates(bench, result, case)
    return result


def add_rates(bench: Bench, result: dict[str, Any], case: Case) -> None:
    """What each timing achieves, beside the least time."""
    for direction, work in WORK.items():
        for row in result.get(direction, {}).values():
            if "median_ms" in row:
                row |= achieved(work(case.shape, case.batch), row, bench.results.get("ceilings", {}))


def _peak(bench: Bench, call: Callable[[], object]) -> int | str | None:
    try:
        return bench.clock.peak_bytes(call)
    except Exception as error:
        return f"failed: {reason(error)}"


def _forward(form: Form, tensors: Tensors, gradient: Tensor) -> Callable[[], object]:
    def call() -> None:
        with torch.no_grad():
            form(*tensors)

    return call


def _backward(form: Form, tensors: Tensors, gradient: Tensor) -> Callable[[], object]:
    kept: list[Tensor] = []

    def call() -> None:
        # The first call, which is not timed, makes the output.
        if not kept:
            kept.append(form(*tensors))
        torch.autograd.grad(kept[0], tensors, gradient, retain_graph=True)

    return call


def _both(form: Form, tensors: Tensors, gradient: Tensor) -> Callable[[], object]:
    def call() -> None:
        torch.autograd.grad(form(*tensors), tensors, gradient)

    return call


def inference(bench: Bench, case: Case) -> dict[str, Any]:
    """Eager, and from a CUDA graph, which leaves out what Python costs."""
    tensors, gradient = make(bench, case)
    able, notes = forms(tensors, case.shape)
    calls = {name: _forward(form, tensors, gradient) for name, form in able.items()}
    result: dict[str, Any] = {"group": case.group, "notes": notes, "forward": bench.clock.race(calls)}
    work = functools.partial(WORK["forward"], case.shape, case.batch)
    if bench.is_cuda:
        if case.shape.scope is None:
            # Their index of offsets comes from the CPU, which a graph does not allow.
            del calls[PEERS]
        result["graph"] = bench.clock.race(graphs(calls, notes))
    for row in (*result["forward"].values(), *result.get("graph", {}).values()):
        if "median_ms" in row:
            row |= achieved(work(), row, bench.results.get("ceilings", {}))
    return result
