"""Errors of every form against float64, beside those of the peers' formula in the same precision."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch
from ops import conv3d_form
from torch import Tensor

from gpu_parts.clock import cut_off, reason
from gpu_parts.session import Bench, Item
from gpu_parts.sizes import Call
from lambdanets.functional import position_output
from lambdanets.functional._layout import channels_last
from lambdanets.functional._triton import is_interpreted
from lambdanets.functional.content import IMPLEMENTATIONS as CONTENT_FORMS
from lambdanets.functional.content import content_summary
from lambdanets.functional.lambdas import normalize_keys
from lambdanets.functional.position import IMPLEMENTATIONS
from lambdanets.functional.relative_position import dense_embeddings
from lambdanets.notation import KeyNormalization

Tensors = dict[str, Tensor]
Errors = dict[str, dict[str, float]]


class Precision(NamedTuple):
    """A type of numbers, how float32 is multiplied, and the most that a relative error may be."""

    dtype: torch.dtype
    tf32: bool
    most: float
    # Gradients of what all positions share sum over them, and over heads and images.
    most_of_sums: float


PRECISIONS: Final = {
    "float32": Precision(torch.float32, False, 1e-6, 4e-6),
    "tf32": Precision(torch.float32, True, 1e-3, 1e-3),
    "bfloat16": Precision(torch.bfloat16, False, 5e-3, 1e-2),
    "float16": Precision(torch.float16, False, 1e-3, 2e-3),
}

SUMS: Final = ("table", "shared")

# What has to be right before times are taken; other forms are noted, as they may be a library's to blame.
GATED: Final = ("triton", "auto")

# Ours may have so many times the peers' error, where it is above one rounding.
MOST_OF_PEERS: Final = 2.0

# Triton's interpreter cuts float32 off where a GPU rounds it to bfloat16: twice the error, each time.
INTERPRETED: Final = 3.0

# All of them at the first call, the first of them at the others.
NORMALIZATIONS: Final[tuple[KeyNormalization, ...]] = ("softmax", "l2", "none")


def items(bench: Bench) -> list[Item]:
    """Every call in every precision, then calls of many sizes in bfloat16; positions, then content."""
    names = list(PRECISIONS) if bench.is_cuda else [name for name in PRECISIONS if name != "tf32"]
    asked = [(call, name) for call in bench.sizes.every_precision for name in names]
    asked += [(call, "bfloat16") for call in bench.sizes.bfloat16]
    made = []
    for part, measure, warm in (
        ("position_output", position_errors, position_warm),
        ("content_summary", content_errors, content_warm),
    ):
        made += [
            Item(
                f"{part} {call.name} {name}",
                functools.partial(measure, bench, call, PRECISIONS[name]),
                (functools.partial(warm, bench, call, PRECISIONS[name]),),
            )
            for call, name in asked
        ]
    return made


def position_errors(bench: Bench, call: Call, precision: Precision) -> dict[str, Any]:
    """Output and four gradients of each form."""
    tensors, gradient = draw(bench, call, precision.dtype)
    forms = [
        "triton",
        "auto",
        *(one.name for one in IMPLEMENTATIONS if one.name not in ("reference", "triton")),
    ]
    return compare(
        {name: functools.partial(with_shared, name) for name in forms},
        peers_position,
        functools.partial(with_shared, "reference"),
        tensors,
        gradient,
        precision,
    )


def content_errors(bench: Bench, call: Call, precision: Precision) -> dict[str, Any]:
    """The content lambda and its two gradients, for each normalisation of the keys."""
    position, _ = draw(bench, call, precision.dtype)
    keys = torch.randn(call.b, call.u, call.k, *call.size, device=bench.device)
    tensors = {"keys": in_order(keys.to(precision.dtype)), "values": position["values"]}
    gradient = torch.randn(call.b, call.k, call.v, device=bench.device)
    found: dict[str, Any] = {"red": []}
    for normalization in normalizations(bench, call):
        one = compare(
            {
                form.name: functools.partial(content_summary, key_normalization=normalization, impl=form.name)
                for form in sorted(CONTENT_FORMS, key=lambda form: form.name != "triton")
                if form.name != "reference"
            },
            functools.partial(peers_content, normalization),
            functools.partial(content_summary, key_normalization=normalization, impl="reference"),
            tensors,
            gradient,
            precision,
        )
        found["red"] += [f"{normalization}: {text}" for text in one.pop("red")]
        found[normalization] = one
    return found


def position_warm(bench: Bench, call: Call, precision: Precision) -> None:
    """Compile the kernels of a call."""
    tensors, gradient = draw(bench, call, precision.dtype)
    with multiplied(precision):
        evaluate(functools.partial(with_shared, "triton"), tensors, gradient)


def content_warm(bench: Bench, call: Call, precision: Precision) -> None:
    """Compile the kernels of a call."""
    tensors, _ = draw(bench, call, precision.dtype)
    keys = in_order(torch.randn(call.b, call.u, call.k, *call.size, device=bench.device).to(precision.dtype))
    gradient = torch.randn(call.b, call.k, call.v, device=bench.device)
    for normalization in normalizations(bench, call):
        form = functools.partial(content_summary, key_normalization=normalization, impl="triton")
        with multiplied(precision):
            evaluate(form, {"keys": keys, "values": tensors["values"]}, gradient)


def normalizations(bench: Bench, call: Call) -> tuple[KeyNormalization, ...]:
    """Of the keys of a call."""
    return NORMALIZATIONS if call == bench.sizes.every_precision[0] else NORMALIZATIONS[:1]


def draw(bench: Bench, call: Call, dtype: torch.dtype) -> tuple[Tensors, Tensor]:
    """Random inputs with channels last, rounded to the type, and a gradient of the output."""
    scale = call.k * call.u * torch.Size(call.scope).numel()
    sizes = {
        "queries": (call.b, call.h, call.k, *call.size),
        "values": (call.b, call.u, call.v, *call.size),
        "table": (call.u, call.k, *call.scope),
        "shared": (call.b, call.k, call.v),
    }
    tensors = {name: torch.randn(size, device=bench.device) for name, size in sizes.items()}
    tensors["table"] *= scale**-0.5
    tensors["shared"] *= call.k**-0.5
    gradient = torch.randn(call.b, call.h, call.v, *call.size, device=bench.device)
    for name in ("queries", "values"):
        tensors[name] = in_order(tensors[name])
    return {name: one.to(dtype) for name, one in tensors.items()}, in_order(gradient).to(dtype)


def in_order(tensor: Tensor) -> Tensor:
    """As a model in channels-last has it."""
    return channels_last(tensor)


def with_shared(impl: str, queries: Tensor, values: Tensor, table: Tensor, shared: Tensor) -> Tensor:
    """Ours."""
    return position_output(queries, values, table, shared=shared, impl=impl)


def peers_position(queries: Tensor, values: Tensor, table: Tensor, shared: Tensor) -> Tensor:
    """A 3-d convolution over windows; written-out embeddings where the scope is the whole map, or not 2-d."""
    whole = all(
        side >= 2 * length - 1 for side, length in zip(table.shape[2:], queries.shape[3:], strict=True)
    )
    form = einsum_form if whole or queries.ndim != 5 else conv3d_form
    return form(queries, values, table) + torch.einsum("bhk...,bkv->bhv...", queries, shared)


def einsum_form(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """The peers' way with a global context: embeddings of all pairs, lambdas, lambdas applied."""
    size = queries.shape[3:]
    embeddings = dense_embeddings(table, tuple(size))
    lambdas = torch.einsum("nmuk,buvm->bnkv", embeddings, values.flatten(3))
    return torch.einsum("bhkn,bnkv->bhvn", queries.flatten(3), lambdas).unflatten(-1, size)


def peers_content(normalization: KeyNormalization, keys: Tensor, values: Tensor) -> Tensor:
    """All in the type of the inputs, as the peers do without autocast."""
    weights = normalize_keys(keys.flatten(3), normalization).to(keys.dtype)
    return torch.einsum("bukm,buvm->bkv", weights, values.flatten(3))


@contextmanager
def multiplied(precision: Precision) -> Iterator[None]:
    """Matrix products and convolutions of float32 in tf32, or not."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = precision.tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def evaluate(form: Callable[..., Tensor], tensors: Tensors, gradient: Tensor) -> Tensors:
    """The output and the gradients of all inputs."""
    leaves = {name: one.detach().requires_grad_() for name, one in tensors.items()}
    output = form(*leaves.values())
    found = torch.autograd.grad(output, list(leaves.values()), gradient.to(output.dtype))
    return {"output": output.detach(), **dict(zip(leaves, found, strict=True))}


def compare(
    forms: dict[str, Callable[..., Tensor]],
    peers: Callable[..., Tensor],
    exact: Callable[..., Tensor],
    tensors: Tensors,
    gradient: Tensor,
    precision: Precision,
) -> dict[str, Any]:
    """Errors of each form and of the peers, and what is wrong with them."""
    doubles = {name: one.double() for name, one in tensors.items()}
    truth = evaluate(exact, doubles, gradient.double())
    result: dict[str, Any] = {"errors": {}, "red": [], "noted": []}
    with multiplied(precision):
        try:
            result["peers"] = errors(evaluate(peers, tensors, gradient), truth)
        except Exception as error:
            result["peers"] = f"failed: {reason(error)}"
        for name, form in forms.items():
            problems = result["red" if name in GATED else "noted"]
            try:
                with cut_off(40), poisoned():
                    row = errors(evaluate(form, tensors, gradient), truth)
            except NotImplementedError as error:
                result["errors"][name] = f"cannot: {reason(error)}"
                if name == "triton":
                    result["red"].append(f"{name} cannot run this call")
                continue
            except Exception as error:
                result["errors"][name] = f"failed: {reason(error)}"
                problems.append(f"{name} {result['errors'][name][:120]}")
                continue
            result["errors"][name] = row
            problems += wrong(name, row, result["peers"], precision)
    return result


def errors(actual: Tensors, truth: Tensors) -> Errors:
    """Root mean square and largest difference, over the root mean square of the truth."""
    rows = {}
    for name, one in truth.items():
        difference, scale = actual[name].double() - one, one.square().mean().sqrt()
        rows[name] = {
            "rms": float(difference.square().mean().sqrt() / scale),
            "max": float(difference.abs().max() / scale),
        }
    return rows


def wrong(form: str, row: Errors, peers: Errors | str, precision: Precision) -> list[str]:
    """In words: errors above the most, and the kernels' above twice the peers'. A NaN is found too."""
    found = []
    for name, one in row.items():
        most = precision.most_of_sums if name in SUMS else precision.most
        more = INTERPRETED if is_interpreted() and precision.dtype == torch.bfloat16 else 1.0
        if not one["rms"] <= more * most:
            found.append(f"{form} {name}: error {one['rms']:.1e}, more than {most:.0e}")
        elif form == "triton" and not isinstance(peers, str):
            allowed = max(MOST_OF_PEERS * peers[name]["rms"], torch.finfo(precision.dtype).eps)
            if one["rms"] > more * allowed:
                found.append(f"{form} {name}: error {one['rms']:.1e}, the peers' {peers[name]['rms']:.1e}")
    return found
