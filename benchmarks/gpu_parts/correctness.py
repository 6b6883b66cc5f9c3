"""Errors of every implementation against float64, beside the peers'; bits, graphs, the compiler."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from errors import Errors, relative_errors
from harness import Call, Result, cut_off, reason
from ops import conv3d_form, einsum_form
from shapes import CallSizes
from torch import Tensor, nn

from gpu_parts.session import Bench, Item, captured
from lambdanets import create_model
from lambdanets.functional import position_output
from lambdanets.functional._layout import channels_last
from lambdanets.functional._triton import is_interpreted
from lambdanets.functional.content import IMPLEMENTATIONS as CONTENT_IMPLEMENTATIONS
from lambdanets.functional.content import content_summary
from lambdanets.functional.lambdas import normalize_keys
from lambdanets.functional.position import IMPLEMENTATIONS
from lambdanets.nn import set_implementation
from lambdanets.notation import KeyNormalization

Tensors = dict[str, Tensor]
Operator = Callable[..., Tensor]


class Precision(NamedTuple):
    """A type of numbers, how float32 is multiplied, and the largest relative error.

    Gradients of what all positions share sum over them, and over heads and images, and have their own.
    """

    dtype: torch.dtype
    tf32: bool
    largest: float
    largest_of_sums: float


PRECISIONS: Final = {
    "float32": Precision(torch.float32, False, 1e-6, 4e-6),
    "tf32": Precision(torch.float32, True, 1e-3, 1e-3),
    "bfloat16": Precision(torch.bfloat16, False, 5e-3, 1e-2),
    "float16": Precision(torch.float16, False, 1e-3, 2e-3),
}
SUMS: Final = ("table", "shared")

# Must be right before times are taken; other implementations are noted: a library may be to blame.
GATED: Final = ("triton", "auto")
# Ours may have this many times the peers' error, where it is above one rounding.
LARGEST_RATIO: Final = 2.0
# Triton's interpreter cuts float32 off where a GPU rounds it to bfloat16: twice the error, each time.
INTERPRETED: Final = 3.0
# Relative error of a compiled model's output and gradients, in float32.
COMPILED: Final = 1e-3

# All of them at the first call, the first of them at the others.
NORMALIZATIONS: Final[tuple[KeyNormalization, ...]] = ("softmax", "l2", "none")

MAP, WIDE = CallSizes((14, 14), (23, 23), b=32, v=64), CallSizes((56, 56), (23, 23), b=16)
TINY = CallSizes((3, 5), (3, 5), b=4, h=2, k=8, v=8)
# Outputs and gradients that belong to one image each.
BY_IMAGE: Final = ("output", "queries", "values", "shared")


def items(bench: Bench) -> list[Item]:
    """Every call in every precision, calls of many sizes in bfloat16, then what must hold bit by bit."""
    names = list(PRECISIONS) if bench.is_cuda else [name for name in PRECISIONS if name != "tf32"]
    calls = [(call, name) for call in bench.sizes.every_precision for name in names]
    calls += [(call, "bfloat16") for call in bench.sizes.bfloat16]
    made = [
        Item(
            f"{operation} {call.name} {name}",
            functools.partial(measure, bench, call, PRECISIONS[name]),
            (functools.partial(measure, bench, call, PRECISIONS[name], only="triton"),),
        )
        for operation, measure in (("position_output", position), ("content_summary", content))
        for call, name in calls
    ]
    sizes = (TINY,) if bench.rehearse else (MAP, WIDE)
    bitwise = [same_bits, independent_images, *([graph_replays] if bench.is_cuda else [])]
    for call in sizes:
        warm = functools.partial(position, bench, call, PRECISIONS["bfloat16"], only="triton")
        made += [
            Item(f"{check.__name__} {call.name}", functools.partial(check, bench, call), (warm,))
            for check in bitwise
        ]
    compiled = functools.partial(compiled_model, bench)
    made.append(Item("large_tensors", functools.partial(large_tensors, bench)))
    made.append(Item("compiled_model", compiled, (compiled,), longest=150.0))
    return made


def draw(bench: Bench, call: CallSizes, dtype: torch.dtype) -> tuple[Tensors, Tensor]:
    """Random inputs with channels last, rounded to the type, and a gradient of the output."""
    sizes = {
        "queries": (call.b, call.h, call.k, *call.size),
        "values": (call.b, call.u, call.v, *call.size),
        "table": (call.u, call.k, *call.scope),
        "shared": (call.b, call.k, call.v),
    }
    tensors = {name: torch.randn(size, device=bench.device) for name, size in sizes.items()}
    tensors["table"] *= tensors["table"].numel() ** -0.5
    tensors["shared"] *= call.k**-0.5
    gradient = torch.randn(call.b, call.h, call.v, *call.size, device=bench.device)
    for name in ("queries", "values"):
        tensors[name] = channels_last(tensors[name])
    return {name: one.to(dtype) for name, one in tensors.items()}, channels_last(gradient).to(dtype)


def with_shared(impl: str, queries: Tensor, values: Tensor, table: Tensor, shared: Tensor) -> Tensor:
    """`position_output` with the content's lambda."""
    return position_output(queries, values, table, shared=shared, impl=impl)


TRITON: Final = functools.partial(with_shared, "triton")


def position(bench: Bench, call: CallSizes, precision: Precision, only: str | None = None) -> Result:
    """Output and four gradients of each implementation."""
    tensors, gradient = draw(bench, call, precision.dtype)
    names = [
        "triton",
        "auto",
        *(one.name for one in IMPLEMENTATIONS if one.name not in ("reference", "triton")),
    ]
    operators = {name: functools.partial(with_shared, name) for name in names if only in (None, name)}
    exact = functools.partial(with_shared, "reference")
    return compare(operators, peers_position, exact, tensors, gradient, precision)


def peers_position(queries: Tensor, values: Tensor, table: Tensor, shared: Tensor) -> Tensor:
    """A 3-d convolution over windows; written-out embeddings where the scope is the whole map, or not 2-d."""
    sides = zip(table.shape[2:], queries.shape[3:], strict=True)
    is_global = all(side >= 2 * length - 1 for side, length in sides)
    form = einsum_form if is_global or queries.ndim != 5 else conv3d_form
    return form(queries, values, table) + torch.einsum("bhk...,bkv->bhv...", queries, shared)


def content(bench: Bench, call: CallSizes, precision: Precision, only: str | None = None) -> Result:
    """The content lambda and its two gradients, for each normalisation of the keys."""
    values = draw(bench, call, precision.dtype)[0]["values"]
    keys = torch.randn(call.b, call.u, call.k, *call.size, device=bench.device).to(precision.dtype)
    tensors = {"keys": channels_last(keys), "values": values}
    gradient = torch.randn(call.b, call.k, call.v, device=bench.device)
    names = [one.name for one in CONTENT_IMPLEMENTATIONS if one.name != "reference"]
    result: Result = {"red": []}
    is_first = call == bench.sizes.every_precision[0]
    for normalization in NORMALIZATIONS if is_first else NORMALIZATIONS[:1]:
        summarise = functools.partial(content_summary, key_normalization=normalization)
        operators = {name: functools.partial(summarise, impl=name) for name in names if only in (None, name)}
        exact = functools.partial(summarise, impl="reference")
        peers = functools.partial(peers_content, normalization)
        one = compare(operators, peers, exact, tensors, gradient, precision)
        result["red"] += [f"{normalization}: {text}" for text in one.pop("red")]
        result[normalization] = one
    return result


def peers_content(normalization: KeyNormalization, keys: Tensor, values: Tensor) -> Tensor:
    """All in the type of the inputs, as the peers do without autocast."""
    weights = normalize_keys(keys.flatten(3), normalization).to(keys.dtype)
    return torch.einsum("bukm,buvm->bkv", weights, values.flatten(3))


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Matrix products and convolutions of float32 in tf32, or not."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def evaluate(operator: Operator, tensors: Tensors, gradient: Tensor) -> Tensors:
    """The output and the gradients of all inputs."""
    leaves = {name: one.detach().requires_grad_() for name, one in tensors.items()}
    output = operator(*leaves.values())
    gradients = torch.autograd.grad(output, list(leaves.values()), gradient.to(output.dtype))
    return {"output": output.detach(), **dict(zip(leaves, gradients, strict=True))}


def compare(
    operators: dict[str, Operator],
    peers: Operator,
    exact: Operator,
    tensors: Tensors,
    gradient: Tensor,
    precision: Precision,
) -> Result:
    """Errors of each implementation and of the peers' formula, and what is wrong with them."""
    doubles = {name: one.double() for name, one in tensors.items()}
    truth = evaluate(exact, doubles, gradient.double())
    result: Result = {"errors": {}, "red": [], "noted": []}
    with float32_products(precision.tf32):
        try:
            result["peers"] = relative_errors(evaluate(peers, tensors, gradient), truth)
        except Exception as error:
            result["peers"] = f"failed: {reason(error)}"
        for name, operator in operators.items():
            problems = result["red" if name in GATED else "noted"]
            try:
                with cut_off(40), poisoned_memory():
                    row = relative_errors(evaluate(operator, tensors, gradient), truth)
            except Exception as error:
                cannot = isinstance(error, NotImplementedError)
                result["errors"][name] = f"{'cannot' if cannot else 'failed'}: {reason(error)}"
                if not cannot or name == "triton":
                    problems.append(f"{name} {result['errors'][name][:120]}")
                continue
            result["errors"][name] = row
            problems += too_large(name, row, result["peers"], precision)
    return result


def too_large(name: str, row: Errors, peers: Errors | str, precision: Precision) -> list[str]:
    """Errors above the largest, and the kernels' above twice the peers', in words. A NaN is one too."""
    problems = []
    factor = INTERPRETED if is_interpreted() and precision.dtype == torch.bfloat16 else 1.0
    for tensor, one in row.items():
        largest = precision.largest_of_sums if tensor in SUMS else precision.largest
        if not one["rms"] <= factor * largest:
            problems.append(f"{name} {tensor}: error {one['rms']:.1e}, more than {largest:.0e}")
        elif name == "triton" and not isinstance(peers, str):
            allowed = max(LARGEST_RATIO * peers[tensor]["rms"], torch.finfo(precision.dtype).eps)
            if one["rms"] > factor * allowed:
                problems.append(f"{name} {tensor}: error {one['rms']:.1e}, peers' {peers[tensor]['rms']:.1e}")
    return problems


def different(first: Tensors, second: Tensors) -> list[str]:
    """Names of the tensors that differ in a bit."""
    return [name for name, one in first.items() if not torch.equal(one, second[name])]


def same_bits(bench: Bench, call: CallSizes) -> Result:
    """Output and all gradients of the same inputs, again and again: a race would show."""
    tensors, gradient = draw(bench, call, torch.bfloat16)
    first = evaluate(TRITON, tensors, gradient)
    counts: dict[str, int] = {}
    for _ in range(bench.sizes.repeats):
        for name in different(first, evaluate(TRITON, tensors, gradient)):
            counts[name] = counts.get(name, 0) + 1
    problems = [f"{name} differs in {count} repeats" for name, count in counts.items()]
    return {"red": problems, "repeats": bench.sizes.repeats}


def independent_images(bench: Bench, call: CallSizes) -> Result:
    """The images in reverse; the first two alone; NaN in one image's values and another's queries."""
    tensors, gradient = draw(bench, call, torch.bfloat16)
    whole = evaluate(TRITON, tensors, gradient)

    def changed(change: Callable[[Tensor], Tensor]) -> Tensors:
        images = {name: one if name == "table" else change(one) for name, one in tensors.items()}
        images = {name: channels_last(one) if one.ndim > 4 else one for name, one in images.items()}
        return evaluate(TRITON, images, change(gradient))

    reversed_, alone = changed(lambda one: one.flip(0)), changed(lambda one: one[:2])
    spoiled = {name: one.clone() for name, one in tensors.items()}
    spoiled["values"][1], spoiled["queries"][2] = torch.nan, torch.nan
    with_nan = evaluate(TRITON, spoiled, gradient)
    kept = torch.tensor([image not in (1, 2) for image in range(call.b)], device=bench.device)
    problems = [] if with_nan["output"][1].isnan().all() else ["the NaN of an image's values was lost"]
    for name in BY_IMAGE:
        if not torch.equal(reversed_[name].flip(0), whole[name]):
            problems.append(f"{name} depends on the order of the images")
        if not torch.equal(alone[name], whole[name][:2]):
            problems.append(f"{name} depends on the number of images")
        if not torch.equal(with_nan[name][kept], whole[name][kept]):
            problems.append(f"{name} is changed by a NaN in another image")
    return {"red": problems}


def graph_replays(bench: Bench, call: CallSizes) -> Result:
    """A training step captured with one input, replayed with another."""
    problems = []
    tensors, gradient = draw(bench, call, torch.bfloat16)
    others, _ = draw(bench, call, torch.bfloat16)
    for impl in GATED:
        operator = functools.partial(with_shared, impl)
        expected = evaluate(operator, others, gradient)
        static = {name: one.clone() for name, one in tensors.items()}
        kept: Tensors = {}

        def step(operator: Operator = operator, static: Tensors = static, kept: Tensors = kept) -> None:
            kept.update(evaluate(operator, static, gradient))

        replay: Call = captured(step)
        for name, one in others.items():
            static[name].copy_(one)
        replay()
        torch.cuda.synchronize()
        problems += [f"{impl} {name} differs" for name in different(expected, kept)]
    return {"red": problems}


def large_tensors(bench: Bench) -> Result:
    """More numbers in each tensor than 32 bits count: against the same in parts."""
    k = v = 64 if not bench.rehearse else 8
    side, r, parts = (14, 7, 32) if not bench.rehearse else (3, 3, 2)
    batch = -(-(bench.sizes.elements // (k * side**2) + 2) // parts) * parts
    queries, values, gradient = (
        torch.randn(batch, side, side, 1, depth, device=bench.device, dtype=torch.bfloat16).movedim(
            (-2, -1), (1, 2)
        )
        for depth in (k, v, v)
    )
    table = torch.randn(1, k, r, r, device=bench.device) * (k * r * r) ** -0.5
    triton = functools.partial(position_output, impl="triton")

    def step(part: slice) -> Tensors:
        tensors = {"queries": queries[part], "values": values[part], "table": table}
        return evaluate(triton, tensors, gradient[part])

    whole = step(slice(None))
    table_sum, worst = torch.zeros_like(table, dtype=torch.float64), {}
    for images in torch.arange(batch).chunk(parts):
        part = slice(int(images[0]), int(images[-1]) + 1)
        one = step(part)
        table_sum += one.pop("table")
        for name, tensor in one.items():
            worst[name] = max(worst.get(name, 0.0), _difference(whole[name][part], tensor))
    worst["table"] = _difference(whole["table"].double(), table_sum)
    problems = [f"{name} differs by {error:.1e}" for name, error in worst.items() if not error < 1e-2]
    return {"red": problems, "images": batch, "numbers": queries.numel(), "differences": worst}


def _difference(first: Tensor, second: Tensor) -> float:
    """Largest difference over the largest number: without copies in a wider type."""
    return float((first - second).abs().max()) / float(second.abs().max())


def compiled_model(bench: Bench) -> Result:
    """A small LambdaResNet under torch.compile with fullgraph, against eager: output and all gradients."""
    problems, worst = [], {}
    for impl in ("auto",) if bench.rehearse else ("auto", "triton"):
        torch.manual_seed(0)
        model = create_model("lambda_resnet_digits", num_classes=10, in_channels=1).to(bench.device)
        set_implementation(model, impl)
        images = torch.randn(8, 1, 8, 8, device=bench.device)
        state = {name: one.clone() for name, one in model.state_dict().items()}
        expected = _model_step(model, images)
        model.load_state_dict(state)
        model.compile(fullgraph=True, dynamic=False)
        actual = _model_step(model, images)
        worst[impl] = max(_difference(actual[name], one) for name, one in expected.items() if one.any())
        if not worst[impl] < COMPILED:
            problems.append(f"{impl} differs by {worst[impl]:.1e}")
    return {"red": problems, "differences": worst}


def _model_step(model: nn.Module, images: Tensor) -> Tensors:
    model.zero_grad(set_to_none=True)
    output: Any = model(images)
    output.square().mean().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return {"output": output.detach(), **gradients}
