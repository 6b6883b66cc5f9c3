"""The context read once by Triton kernels, its weights never written; backward reads it once more."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from lambdanets.functional._dispatch import Implementation, Problem
from lambdanets.functional._layout import cache_signature, empty_in_order_of
from lambdanets.functional._triton import (
    SMALLEST_DEPTH,
    cannot_launch,
    input_precision,
    kernel_rates,
    on_device,
    power_of_two,
    sum_type,
)
from lambdanets.functional.lambdas import normalize_keys
from lambdanets.notation import KeyNormalization

# What a program holds whole, the depths and the bytes of a lambda: more would not fit its registers.
LARGEST: Final = {"query_depth": 64, "value_depth": 256}
LARGEST_LAMBDA: Final = 1 << 16

# Context elements that one program summarises, and the most programs for one context. They depend on the
# context alone, so that an image comes to the same sums in every batch.
SPAN: Final = 1024
PARTS: Final = 64

# Numbers of a lambda that one program sums up, and bytes of context that it loads in one step.
HELD: Final = 8192
LOADED: Final = 32768

# The fewest programs that fill a GPU.
FULL: Final = 1024


def run(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> Float[Tensor, "b k v"]:
    """λᶜ = K̄ᵀ V; torch.compile and torch.export see the registered operator alone."""
    differentiable: Any = LAMBDAS if torch.compiler.is_compiling() else _Lambdas.apply
    lambdas: Tensor = differentiable(keys, values, key_normalization)[0]
    return lambdas.squeeze(1) if keys.shape[1] == 1 else lambdas.sum(1)


_LIBRARY: Final = torch.library.Library("lambdanets", "FRAGMENT")
_LIBRARY.define("content_lambdas(Tensor keys, Tensor values, str key_normalization) -> (Tensor, Tensor)")
_LIBRARY.define(
    "content_gradients(Tensor gradient, Tensor keys, Tensor values, Tensor lambdas, Tensor norms, "
    "str key_normalization) -> (Tensor, Tensor)"
)
LAMBDAS: Final = torch.ops.lambdanets.content_lambdas.default
GRADIENTS: Final = torch.ops.lambdanets.content_gradients.default


@torch.library.impl(_LIBRARY, "content_lambdas", "CompositeExplicitAutograd")
def summarise(keys: Tensor, values: Tensor, key_normalization: KeyNormalization) -> tuple[Tensor, Tensor]:
    """λ = K̄ᵀ V for each part of the intra-depth, "b u k v", and the norms of the keys, "b u 2 k"."""
    lambdas, norms = _results(keys, values)
    b, u, k, v = lambdas.shape
    near, seen = keys.flatten(3), values.flatten(3)
    m = near.shape[3]
    span = SPAN * -(-m // (SPAN * PARTS))
    parts = -(-m // span)
    if not lambdas.numel():
        return lambdas, norms
    kernels, options = _kernels(), _options(keys, values, key_normalization)
    wide = min(options["V"], HELD // options["K"])
    partial, partial_norms = (
        one if parts == 1 else one.new_empty(b, u, parts, *one.shape[2:]) for one in (lambdas, norms)
    )
    with on_device(values):
        kernels.lambdas_kernel[(b * u * parts, -(-v // wide))](
            near,
            seen,
            partial,
            partial_norms,
            (u, m),
            (k, v),
            span,
            near.stride(),
            seen.stride(),
            WHOLE=parts == 1,
            **(options | {"V": wide}),
        )
        if parts > 1:
            kernels.join_kernel[(b * u, k, -(-v // wide))](
                partial,
                partial_norms,
                lambdas,
                norms,
                (k, v),
                parts,
                PARTS=power_of_two(parts),
                V=wide,
                NORMALIZATION=key_normalization,
            )
    return lambdas, norms


@torch.library.impl(_LIBRARY, "content_gradients", "CompositeExplicitAutograd")
def differentiate(
    gradient: Tensor,
    keys: Tensor,
    values: Tensor,
    lambdas: Tensor,
    norms: Tensor,
    key_normalization: KeyNormalization,
) -> tuple[Tensor, Tensor]:
    """The gradients of keys and values, in the order of theirs; `gradient` is that of the lambdas."""
    of_keys, of_values = _results_of_gradients(keys, values)
    b, u, k, v = lambdas.shape
    maps = [one.flatten(3) for one in (keys, values, of_keys, of_values)]
    m = maps[0].shape[3]
    if not lambdas.numel():
        return of_keys, of_values
    options = _options(keys, values, key_normalization)
    span = options["M"] * max(1, b * u * -(-m // options["M"]) // FULL)
    with on_device(values):
        _kernels().gradients_kernel[(b * u * -(-m // span),)](
            gradient,
            *maps[:2],
            lambdas,
            norms,
            *maps[2:],
            (u, m),
            (k, v),
            span,
            gradient.stride(),
            *(one.stride() for one in maps),
            **options,
        )
    return of_keys, of_values


def _kernels() -> Any:
    """The kernels; Triton is imported when they are first used."""
    from lambdanets.functional.content import _triton_kernels

    return _triton_kernels


def _options(keys: Tensor, values: Tensor, key_normalization: KeyNormalization) -> dict[str, Any]:
    """How much a program works on at once, and in what precision: from depths and type alone."""
    kernels, k, v = _kernels(), *(power_of_two(one.shape[2], SMALLEST_DEPTH) for one in (keys, values))
    fitting = LOADED // (values.element_size() * power_of_two(k + v))
    m = min(128, max(SMALLEST_DEPTH, fitting))
    return {
        "M": m,
        "K": k,
        "V": v,
        "NORMALIZATION": key_normalization,
        # As exact as float16 itself.
        "PRECISION": "tf32" if values.dtype == torch.float16 else input_precision(),
        "NUMBER": kernels.NUMBER[values.dtype],
        "SUM": sum_type(values.dtype),
        "num_warps": 8 if k * max(m, v) * values.element_size() >= 2 * HELD else 4,
        "num_stages": 2,
    }


def _results(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    b, u, k = keys.shape[:3]
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.new_empty(b, u, k, values.shape[2], dtype=dtype), values.new_empty(b, u, 2, k, dtype=dtype)


def _results_of_gradients(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    return empty_in_order_of(keys, *keys.shape[1:3]), empty_in_order_of(values, *values.shape[1:3])


@torch.library.register_fake("lambdanets::content_lambdas", lib=_LIBRARY)
def _(keys: Tensor, values: Tensor, key_normalization: KeyNormalization) -> tuple[Tensor, Tensor]:
    return _results(keys, values)


@torch.library.register_fake("lambdanets::content_gradients", lib=_LIBRARY)
def _(gradient: Tensor, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _results_of_gradients(keys, values)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:2], *output)
    ctx.key_normalization = inputs[2]


def _backward(ctx: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, None]:
    run: Any = GRADIENTS if torch.compiler.is_compiling() else _Gradients.apply
    return (*run(gradient, *ctx.saved_tensors, ctx.key_normalization), None)


torch.library.register_autograd("lambdanets::content_lambdas", _backward, setup_context=_keep, lib=_LIBRARY)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.key_normalization = inputs[5]


def _double_backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
    """Through the plain formula, which autograd differentiates twice."""
    with torch.enable_grad():
        gradient, keys, values = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        weights, seen = normalize_keys(keys.flatten(3), ctx.key_normalization), values.flatten(3)
        lambdas = torch.einsum("bukm,buvm->bukv", weights, seen.to(weights.dtype))
        first = torch.autograd.grad(lambdas, (keys, values), gradient.to(lambdas.dtype), create_graph=True)
        second = torch.autograd.grad(first, (gradient, keys, values), outer, allow_unused=True)
    return (*second, None, None, None)


def _folded(function: Any, count: int, info: Any, in_dims: Sequence[int | None], arguments: Any) -> Any:
    """A mapped axis of the first arguments is folded into the batch."""
    tensors = [
        (one.expand(info.batch_size, *one.shape) if axis is None else one.movedim(axis, 0)).flatten(0, 1)
        for one, axis in zip(arguments[:count], in_dims[:count], strict=True)
    ]
    found = function.apply(*tensors, *arguments[count:])
    return tuple(one.unflatten(0, (info.batch_size, -1)) for one in found), (0, 0)


@cache_signature
class _Lambdas(torch.autograd.Function):
    """The operator for eager mode: functorch differentiates autograd functions and not operators."""

    @staticmethod
    def forward(
        keys: Float[Tensor, "b u k *context"],
        values: Float[Tensor, "b u v *context"],
        key_normalization: KeyNormalization,
    ) -> tuple[Float[Tensor, "b u k v"], Float[Tensor, "b u 2 k"]]:
        found: tuple[Tensor, Tensor] = LAMBDAS(keys, values, key_normalization)
        return found

    setup_context = staticmethod(_keep)
    backward = staticmethod(_backward)

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
        return _folded(_Lambdas, 2, info, in_dims, arguments)


@cache_signature
class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(
        gradient: Float[Tensor, "b u k v"],
        keys: Float[Tensor, "b u k *context"],
        values: Float[Tensor, "b u v *context"],
        lambdas: Float[Tensor, "b u k v"],
        norms: Float[Tensor, "b u 2 k"],
        key_normalization: KeyNormalization,
    ) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = GRADIENTS(gradient, keys, values, lambdas, norms, key_normalization)
        return found

    setup_context = staticmethod(_keep_inputs)
    backward = staticmethod(_double_backward)

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
        return _folded(_Gradients, 5, info, in_dims, arguments)


@register_flop_formula(torch.ops.lambdanets.content_lambdas)
def _(keys: Sequence[int], values: Sequence[int], *_: Any, **__: Any) -> int:
    """One product; its backward has two."""
    return 2 * math.prod(keys) * values[2]


@register_flop_formula(torch.ops.lambdanets.content_gradients)
def _(gradient: Sequence[int], keys: Sequence[int], values: Sequence[int], *_: Any, **__: Any) -> int:
    return 4 * math.prod(keys) * values[2]


def why_not(problem: Problem) -> str | None:
    """What it needs of the device, a largest key, and depths that a program can hold."""
    for name, most in LARGEST.items():
        if getattr(problem, name) > most:
            return f"needs {name} of {most} or less, got {getattr(problem, name)}"
    lambda_bytes = (
        max(problem.item_bytes, 4) * power_of_two(problem.query_depth) * power_of_two(problem.value_depth)
    )
    if lambda_bytes > LARGEST_LAMBDA:
        return f"needs a lambda of {LARGEST_LAMBDA} bytes or less, got {lambda_bytes}"
    return cannot_launch(problem) if problem.positions else "needs a context of one element or more"


def cost(problem: Problem) -> float:
    """2·b·m·u·k·v, with everything read once."""
    device, m = kernel_rates(problem.device), problem.positions
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    flops = 2 * problem.batch * m * u * power_of_two(k, SMALLEST_DEPTH) * power_of_two(v, SMALLEST_DEPTH)
    moved = problem.item_bytes * problem.batch * m * u * (k + v)
    return flops / device.product_flops + moved / device.bytes + 2 * device.launch_seconds


IMPLEMENTATION = Implementation("triton", why_not, cost, run)
