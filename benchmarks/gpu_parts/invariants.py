"""What has to hold bit by bit: repeats, order of images, NaN, large tensors, graphs; and the compiler."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gpu_parts.clock import captured
from gpu_parts.correctness import (
    PRECISIONS,
    Tensors,
    draw,
    evaluate,
    in_order,
    position_warm,
    with_shared,
)
from gpu_parts.session import Bench, Item
from gpu_parts.sizes import Call
from lambdanets import create_model
from lambdanets.functional import position_output
from lambdanets.nn import set_implementation

TRITON = functools.partial(with_shared, "triton")
MAP, TINY = Call((14, 14), (23, 23), b=32, v=64), Call((3, 5), (3, 5), b=4, h=2, k=8, v=8)
WIDE = Call((56, 56), (23, 23), b=16)

# Relative error of a compiled model's output and gradients, in float32.
COMPILED = 1e-3


def items(bench: Bench) -> list[Item]:
    """Each is red if it does not hold."""
    calls = (TINY,) if bench.rehearse else (MAP, WIDE)
    checks = (same_bits_again, same_bits_in_any_order, nan_stays_in_its_image)
    made = [
        Item(f"{check.__name__} {call.name}", functools.partial(check, bench, call))
        for call in calls
        for check in checks
    ]
    warm = [functools.partial(position_warm, bench, call, PRECISIONS["bfloat16"]) for call in calls]
    made += [
        Item("large_tensors", functools.partial(large_tensors, bench)),
        Item(
            "compiled_model",
            functools.partial(compiled_model, bench),
            (functools.partial(compiled_model, bench), *warm),
            longest=150.0,
        ),
    ]
    if bench.is_cuda:
        made.append(Item("graph_replays", functools.partial(graph_replays, bench, calls[0])))
    return made


def verdict(problems: list[str], **details: Any) -> dict[str, Any]:
    """As the gate reads it."""
    return {"red": problems, **details}


def same(first: Tensors, second: Tensors) -> list[str]:
    """Names of the tensors that differ in a bit."""
    return [name for name, one in first.items() if not torch.equal(one, second[name])]


def same_bits_again(bench: Bench, call: Call) -> dict[str, Any]:
    """Output and all gradients of the same inputs."""
    tensors, gradient = draw(bench, call, torch.bfloat16)
    first = evaluate(TRITON, tensors, gradient)
    differing: dict[str, int] = {}
    for _ in range(bench.sizes.repeats):
        for name in same(first, evaluate(TRITON, tensors, gradient)):
            differing[name] = differing.get(name, 0) + 1
    problems = [f"{name} differs in {count} repeats" for name, count in differing.items()]
    return verdict(problems, repeats=bench.sizes.repeats)


def same_bits_in_any_order(bench: Bench, call: Call) -> dict[str, Any]:
    """The images turned round; and the first two without the others."""
    tensors, gradient = draw(bench, call, torch.bfloat16)
    whole = evaluate(TRITON, tensors, gradient)
    turned = evaluate(TRITON, _images(tensors, lambda one: one.flip(0)), gradient.flip(0))
    alone = evaluate(TRITON, _images(tensors, lambda one: one[:2]), gradient[:2])
    problems = []
    for name in ("output", "queries", "values", "shared"):
        if not torch.equal(turned[name].flip(0), whole[name]):
            problems.append(f"{name} depends on the order of the images")
        if not torch.equal(alone[name], whole[name][:2]):
            problems.append(f"{name} depends on the number of images")
    return verdict(problems)


def _images(tensors: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    """Change all tensors that have images."""
    changed = {name: one if name == "table" else change(one) for name, one in tensors.items()}
    return {name: in_order(one) if one.ndim > 4 else one for name, one in changed.items()}


def nan_stays_in_its_image(bench: Bench, call: Call) -> dict[str, Any]:
    """One image's values and another's queries are NaN."""
    tensors, gradient = draw(bench, call, torch.bfloat16)
    whole = evaluate(TRITON, tensors, gradient)
    spoiled = {name: one.clone() for name, one in tensors.items()}
    spoiled["values"][1], spoiled["queries"][2] = torch.nan, torch.nan
    found = evaluate(TRITON, spoiled, gradient)
    kept = torch.tensor([image not in (1, 2) for image in range(call.b)], device=bench.device)
    names = ("output", "queries", "values", "shared")
    problems = [f"{name} changed" for name in names if not torch.equal(found[name][kept], whole[name][kept])]
    problems += [] if found["output"][1].isnan().all() else ["the NaN of an image's values was lost"]
    return verdict(problems)


def large_tensors(bench: Bench) -> dict[str, Any]:
    """More numbers in each tensor than 32 bits count: against the same in parts."""
    k = v = 64 if not bench.rehearse else 8
    side, r, parts = (14, 7, 32) if not bench.rehearse else (3, 3, 2)
    batch = -(-(bench.sizes.elements // (k * side**2) + 2) // parts) * parts
    sizes = {"queries": k, "values": v, "gradient": v}
    big = {
        name: torch.randn(batch, side, side, 1, depth, device=bench.device, dtype=torch.bfloat16)
        for name, depth in sizes.items()
    }
    queries, values, gradient = (one.movedim((-2, -1), (1, 2)) for one in big.values())
    table = torch.randn(1, k, r, r, device=bench.device) * (k * r * r) ** -0.5
    whole = _step(queries, values, table, gradient)
    table_sum, worst = torch.zeros_like(table, dtype=torch.float64), {}
    for images in torch.arange(batch).chunk(parts):
        part = slice(int(images[0]), int(images[-1]) + 1)
        found = _step(queries[part], values[part], table, gradient[part])
        table_sum += found.pop("table")
        for name, one in found.items():
            worst[name] = max(worst.get(name, 0.0), _difference(whole[name][part], one))
    worst["table"] = _difference(whole["table"].double(), table_sum)
    problems = [f"{name} differs by {error:.1e}" for name, error in worst.items() if not error < 1e-2]
    return verdict(problems, images=batch, numbers=queries.numel(), differences=worst)


def _step(queries: Tensor, values: Tensor, table: Tensor, gradient: Tensor) -> Tensors:
    tensors = {"queries": queries, "values": values, "table": table}
    return evaluate(functools.partial(position_output, impl="triton"), tensors, gradient)


def _difference(first: Tensor, second: Tensor) -> float:
    """Largest difference over the largest number: without copies in a wider type."""
    return float((first - second).abs().max()) / float(second.abs().max())


def graph_replays(bench: Bench, call: Call) -> dict[str, Any]:
    """Captured with one input, replayed with another: inference and a training step."""
    problems = []
    tensors, gradient = draw(bench, call, torch.bfloat16)
    others, _ = draw(bench, call, torch.bfloat16)
    for impl in ("triton", "auto"):
        form = functools.partial(with_shared, impl)
        wanted = evaluate(form, others, gradient)
        static = {name: one.clone() for name, one in tensors.items()}
        kept: Tensors = {}
        replay = captured(functools.partial(_keep, kept, form, static, gradient))
        for name, one in others.items():
            static[name].copy_(one)
        replay()
        torch.cuda.synchronize()
        problems += [f"{impl} {name} differs" for name in same(wanted, kept)]
    return verdict(problems)


def _keep(kept: Tensors, form: Callable[..., Tensor], tensors: Tensors, gradient: Tensor) -> None:
    kept.update(evaluate(form, tensors, gradient))


def compiled_model(bench: Bench) -> dict[str, Any]:
    """A small LambdaResNet under torch.compile with fullgraph, against eager: output and all gradients."""
    problems, worst = [], {}
    for impl in ("auto",) if bench.rehearse else ("auto", "triton"):
        torch.manual_seed(0)
        model = create_model("lambda_resnet_digits", num_classes=10, in_channels=1).to(bench.device)
        set_implementation(model, impl)
        images = torch.randn(8, 1, 8, 8, device=bench.device)
        state = {name: one.clone() for name, one in model.state_dict().items()}
        wanted = _learn(model, images)
        model.load_state_dict(state)
        model.compile(fullgraph=True, dynamic=False)
        found = _learn(model, images)
        worst[impl] = max(_difference(found[name], one) for name, one in wanted.items() if one.any())
        if not worst[impl] < COMPILED:
            problems.append(f"{impl} differs by {worst[impl]:.1e}")
    return verdict(problems, differences=worst)


def _learn(model: nn.Module, images: Tensor) -> Tensors:
    model.zero_grad(set_to_none=True)
    output = model(images)
    output.square().mean().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return {"output": output.detach(), **gradients}
