"""The context read once by Triton kernels, its weights never written; backward reads it once more."""

from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, needs_a_name
from lambdanets.functional._layout import empty_in_order_of
from lambdanets.functional._triton import (
    SMALLEST_DEPTH,
    acc_dtype,
    cannot_launch,
    input_precision,
    kernel_rates,
    power_of_two,
)
from lambdanets.notation import KeyNormalization

# What a program holds whole, the depths and the bytes of a lambda: more would not fit its registers.
LARGEST: Final = {"query_depth": 64, "value_depth": 256}
_LARGEST_LAMBDA: Final = 1 << 16

# Context elements that one program summarises, and the most programs for one context. They depend on the
# context alone, so that an image comes to the same sums in every batch.
_SPAN: Final = 1024
PARTS: Final = 64

# Numbers of a lambda that one program sums up, and bytes of context that it loads in one step.
_HELD: Final = 8192
_LOADED: Final = 32768

# The fewest programs that fill a GPU.
FULL: Final = 1024


def run(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> tuple[Float[Tensor, "b u k v"], Float[Tensor, "b u 2 k"]]:
    """λ = K̄ᵀ V, with the norms of the keys: peak and total of a softmax, or the l2 norm."""
    (b, u, k), v = keys.shape[:3], values.shape[2]
    dtype = torch.promote_types(values.dtype, torch.float32)
    lambdas, norms = values.new_empty(b, u, k, v, dtype=dtype), values.new_empty(b, u, 2, k, dtype=dtype)
    flat_keys, flat_values = keys.flatten(3), values.flatten(3)
    m = flat_keys.shape[3]
    span = _SPAN * -(-m // (_SPAN * PARTS))
    parts = -(-m // span)
    if not lambdas.numel():
        return lambdas, norms
    kernels, options = _kernels(), _options(keys, values, key_normalization)
    block_v = min(options["BLOCK_V"], _HELD // options["BLOCK_K"])
    partial, partial_norms = (
        one if parts == 1 else one.new_empty(b, u, parts, *one.shape[2:]) for one in (lambdas, norms)
    )
    with torch.cuda.device_of(values):
        kernels.lambdas_kernel[(b * u * parts, -(-v // block_v))](
            flat_keys,
            flat_values,
            partial,
            partial_norms,
            (u, m),
            (k, v),
            span,
            flat_keys.stride(),
            flat_values.stride(),
            WHOLE=parts == 1,
            **(options | {"BLOCK_V": block_v}),
        )
        if parts > 1:
            kernels.join_kernel[(b * u, k, -(-v // block_v))](
                partial,
                partial_norms,
                lambdas,
                norms,
                (k, v),
                parts,
                BLOCK_P=power_of_two(parts),
                BLOCK_V=block_v,
                NORMALIZATION=key_normalization,
            )
    return lambdas, norms


def gradients(
    grad_out: Float[Tensor, "b u k v"],
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    lambdas: Float[Tensor, "b u k v"],
    norms: Float[Tensor, "b u 2 k"],
    key_normalization: KeyNormalization,
) -> tuple[Tensor, Tensor]:
    """Gradients of keys and values at once, which share all that is computed; in their order."""
    grad_keys, grad_values = (empty_in_order_of(one, *one.shape[1:3]) for one in (keys, values))
    b, u, k, v = lambdas.shape
    if not lambdas.numel():
        return grad_keys, grad_values
    maps = [one.flatten(3) for one in (keys, values, grad_keys, grad_values)]
    m, options = maps[0].shape[3], _options(keys, values, key_normalization)
    span = options["BLOCK_M"] * max(1, b * u * -(-m // options["BLOCK_M"]) // FULL)
    with torch.cuda.device_of(values):
        _kernels().gradients_kernel[(b * u * -(-m // span),)](
            grad_out,
            *maps[:2],
            lambdas,
            norms,
            *maps[2:],
            (u, m),
            (k, v),
            span,
            grad_out.stride(),
            *(one.stride() for one in maps),
            **options,
        )
    return grad_keys, grad_values


def _kernels() -> Any:
    """The kernels; Triton is imported when they are first used."""
    from lambdanets.functional.content import _triton_kernels

    return _triton_kernels


def _options(keys: Tensor, values: Tensor, key_normalization: str) -> dict[str, Any]:
    """How much a program works on at once, and in what precision: from depths and type alone."""
    kernels, k, v = _kernels(), *(power_of_two(one.shape[2], SMALLEST_DEPTH) for one in (keys, values))
    fitting = _LOADED // (values.element_size() * power_of_two(k + v))
    m = min(128, max(SMALLEST_DEPTH, fitting))
    return {
        "BLOCK_M": m,
        "BLOCK_K": k,
        "BLOCK_V": v,
        "NORMALIZATION": key_normalization,
        # As exact as float16 itself.
        "PRECISION": "tf32" if values.dtype == torch.float16 else input_precision(),
        "DTYPE": kernels.DTYPES[values.dtype],
        "ACC": acc_dtype(values.dtype),
        "num_warps": 8 if k * max(m, v) * values.element_size() >= 2 * _HELD else 4,
        "num_stages": 2,
    }


def why_not(problem: Problem) -> str | None:
    """What it needs of the device, a largest key, and depths that a program can hold."""
    for name, most in LARGEST.items():
        if getattr(problem, name) > most:
            return f"needs {name} of {most} or less, got {getattr(problem, name)}"
    lambda_bytes = (
        max(problem.item_bytes, 4) * power_of_two(problem.query_depth) * power_of_two(problem.value_depth)
    )
    if lambda_bytes > _LARGEST_LAMBDA:
        return f"needs a lambda of {_LARGEST_LAMBDA} bytes or less, got {lambda_bytes}"
    if not problem.positions:
        return "needs a context of one element or more"
    return needs_a_name(problem) or cannot_launch(problem)


def cost(problem: Problem) -> float:
    """2·b·m·u·k·v, with everything read once."""
    device, m = kernel_rates(problem.device), problem.positions
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    flops = 2 * problem.batch * m * u * power_of_two(k, SMALLEST_DEPTH) * power_of_two(v, SMALLEST_DEPTH)
    moved = problem.item_bytes * problem.batch * m * u * (k + v)
    return flops / device.product_flops + moved / device.bytes + 2 * device.launch_seconds


IMPLEMENTATION = Implementation("triton", why_not, cost, run, gradients)
