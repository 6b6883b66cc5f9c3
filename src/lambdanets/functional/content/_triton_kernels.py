"""Triton kernels of the content lambda: weights and normalised keys are never written to memory.

For one image and one part of the intra-depth, x[k, m] are the keys and v[m] the values. A program goes
through a span of the context and holds, for each key channel, a peak p, a total t and sums a:

    softmax    p = maxₘ x    t = Σₘ exp(x - p)    a = Σₘ exp(x - p) vᵀ    λ = a / t
    l2         p = 0         t = Σₘ x²            a = Σₘ x vᵀ             λ = a / √t
    none       p = 0         t = 0                a = Σₘ x vᵀ             λ = a

Where the peak rises to p', what was summed is multiplied by exp(p - p'). A context of several spans leaves
(p, t, a) of each, which `join_kernel` brings to one peak and adds, always in the same order. With dλ given,

    dv[m] = k̄[m]ᵀ dλ                                        k̄ = exp(x - p) / t, x / √t or x
    dx[m] = k̄[m] (dλ v[m] - s)          for a softmax       s = Σₘ k̄[m] dk̄[m] = Σᵥ dλ λ
    dx[m] = (dλ v[m] - k̄[m] s) / √t     for l2
    dx[m] = dλ v[m]                      for none

so that `gradients_kernel` needs the context once, and its programs nothing of each other. Nothing is added
atomically, and no sum depends on the batch: every result is the same in each run and each batch.

Arguments: `keys` and `values` are "b u k m" and "b u v m" with any strides, as are their gradients;
`lambdas` are "b u parts k v" and `norms`, of p and t (√t for l2), "b u parts 2 k", contiguous. `counts` is
(u, m), `depths` (k, v), `span` a multiple of BLOCK_M. Products are computed in DTYPE and summed in ACC.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from lambdanets.functional._triton_kernels import ACC_DTYPE, product
from lambdanets.functional.lambdas import L2_EPSILON

# Axes of a tile, in the comments by their last letter: BLOCK_M context elements, BLOCK_K all key channels,
# BLOCK_V value channels, BLOCK_P parts of a context.

# The dtype of products: gradients of lambdas are sums over a map, which float16 might not hold.
DTYPES = ACC_DTYPE | {torch.bfloat16: tl.bfloat16}

_EPSILON = tl.constexpr(L2_EPSILON)


@triton.jit
@no_type_check
def lambdas_kernel(
    keys,
    values,
    lambdas,
    norms,
    counts,
    depths,
    span,
    k_strides,
    v_strides,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NORMALIZATION: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
    DTYPE: tl.constexpr,
    ACC: tl.constexpr,
):
    """Peak, total and sums of a span of the context; the lambda, where the span is the WHOLE context."""
    parts = tl.cdiv(counts[1], span)
    number = tl.program_id(0)
    item, first = number // parts, number % parts * span
    m, k, v = (
        first + tl.arange(0, BLOCK_M),
        tl.arange(0, BLOCK_K),
        tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V),
    )
    k_pointers = _item(keys, item, counts[0], k_strides) + _offsets(m, k, k_strides[3], k_strides[2])
    v_pointers = _item(values, item, counts[0], v_strides) + _offsets(m, v, v_strides[3], v_strides[2])
    peak = tl.full((BLOCK_K,), float("-inf") if NORMALIZATION == "softmax" else 0.0, ACC)
    total = tl.zeros((BLOCK_K,), ACC)
    sums = tl.zeros((BLOCK_K, BLOCK_V), ACC)
    for start in range(first, tl.minimum(first + span, counts[1]), BLOCK_M):
        on = start + tl.arange(0, BLOCK_M) < counts[1]
        x = tl.load(k_pointers, on[:, None] & (k < depths[0])[None, :], 0.0).to(ACC)  # M K
        v_tile = tl.load(v_pointers, on[:, None] & (v < depths[1])[None, :], 0.0).to(DTYPE)  # M V
        if NORMALIZATION == "softmax":
            x = tl.where(on[:, None], x, float("-inf"))
            higher = tl.maximum(peak, tl.max(x, 0))
            scale = tl.exp(peak - _finite(higher))
            weights = tl.exp(x - _finite(higher)[None, :]).to(DTYPE)
            peak, total, sums = higher, total * scale, sums * scale[:, None]
            # What the values are multiplied by adds up to one, rounded as it is.
            total += tl.sum(weights.to(ACC), 0)
        else:
            weights = x.to(DTYPE)
            if NORMALIZATION == "l2":
                total += tl.sum(x * x, 0)
        sums = product(tl.trans(weights), v_tile, sums, PRECISION)
        k_pointers += tl.cast(k_strides[3], tl.int64) * BLOCK_M
        v_pointers += tl.cast(v_strides[3], tl.int64) * BLOCK_M
    if WHOLE:
        total, sums = _normalize(total, sums, NORMALIZATION)
    _store(lambdas, norms, number.to(tl.int64), k, v, depths, peak, total, sums)


@triton.jit
@no_type_check
def join_kernel(
    partial,
    partial_norms,
    lambdas,
    norms,
    depths,
    parts,
    BLOCK_P: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NORMALIZATION: tl.constexpr,
):
    """The lambda of one key channel and BLOCK_V value channels, from all spans of the context."""
    item, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    part, v = tl.arange(0, BLOCK_P), tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V)
    pointers = partial_norms + (item * parts + part) * (2 * depths[0]) + k
    peaks = tl.load(pointers, part < parts, float("-inf"))  # P
    totals = tl.load(pointers + depths[0], part < parts, 0.0)
    pointers = partial + ((item * parts + part) * depths[0] + k)[:, None] * depths[1] + v[None, :]
    sums = tl.load(pointers, (part < parts)[:, None] & (v < depths[1])[None, :], 0.0)  # P V
    peak = tl.max(peaks, 0)
    scale = tl.exp(peaks - _finite(peak))
    total, joined = tl.sum(totals * scale, 0), tl.sum(sums * scale[:, None], 0)
    k = k + tl.arange(0, 1)
    total, joined = _normalize(total + tl.zeros((1,), total.dtype), joined[None, :], NORMALIZATION)
    _store(lambdas, norms, item, k, v, depths, peak + tl.zeros((1,), total.dtype), total, joined)


@triton.jit
@no_type_check
def gradients_kernel(
    grad_out,
    keys,
    values,
    lambdas,
    norms,
    grad_keys,
    grad_values,
    counts,
    depths,
    span,
    g_strides,
    k_strides,
    v_strides,
    dk_strides,
    dv_strides,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
    NORMALIZATION: tl.constexpr,
    PRECISION: tl.constexpr,
    DTYPE: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients of the keys and values of a span of the context; BLOCK_V holds all value channels."""
    parts = tl.cdiv(counts[1], span)
    item, first = tl.program_id(0) // parts, tl.program_id(0) % parts * span
    m, k, v = first + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_K), tl.arange(0, BLOCK_V)
    inside = (k < depths[0])[:, None] & (v < depths[1])[None, :]
    g_pointers = _item(grad_out, item, counts[0], g_strides) + _offsets(k, v, g_strides[2], g_strides[3])
    g_tile = tl.load(g_pointers, inside, 0.0).to(DTYPE)  # K V
    places = item.to(tl.int64) * depths[0] * depths[1] + k[:, None] * depths[1] + v[None, :]
    # Of the gradient as it is rounded for the products, from which it is taken.
    shared = tl.sum(g_tile.to(ACC) * tl.load(lambdas + places, inside, 0.0), 1)  # K
    places = item.to(tl.int64) * (2 * depths[0]) + k
    peak = tl.load(norms + places, k < depths[0], 0.0)
    total = tl.load(norms + depths[0] + places, k < depths[0], 1.0)
    inverse = total
    if NORMALIZATION == "l2":
        # Below the smallest norm the keys are divided by a constant.
        shared, inverse = tl.where(total > _EPSILON, shared, 0.0), 1.0 / tl.maximum(total, _EPSILON)
    if NORMALIZATION == "softmax":
        inverse = 1.0 / total
    k_pointers = _item(keys, item, counts[0], k_strides) + _offsets(m, k, k_strides[3], k_strides[2])
    v_pointers = _item(values, item, counts[0], v_strides) + _offsets(m, v, v_strides[3], v_strides[2])
    dk_pointers = _item(grad_keys, item, counts[0], dk_strides) + _offsets(m, k, dk_strides[3], dk_strides[2])
    dv_pointers = _item(grad_values, item, counts[0], dv_strides) + _offsets(
        m, v, dv_strides[3], dv_strides[2]
    )
    for start in range(first, tl.minimum(first + span, counts[1]), BLOCK_M):
        on = start + tl.arange(0, BLOCK_M) < counts[1]
        k_mask, v_mask = on[:, None] & (k < depths[0])[None, :], on[:, None] & (v < depths[1])[None, :]
        x = tl.load(k_pointers, k_mask, 0.0).to(ACC)  # M K
        v_tile = tl.load(v_pointers, v_mask, 0.0).to(DTYPE)  # M V
        grad_weights = product(v_tile, tl.trans(g_tile), tl.zeros((BLOCK_M, BLOCK_K), ACC), PRECISION)
        weights, grad_x = _grad_keys(x, grad_weights, shared, peak, inverse, NORMALIZATION)
        tl.store(dk_pointers, grad_x.to(grad_keys.dtype.element_ty), k_mask)
        grad_v = product(weights.to(DTYPE), g_tile, tl.zeros((BLOCK_M, BLOCK_V), ACC), PRECISION)
        tl.store(dv_pointers, grad_v.to(grad_values.dtype.element_ty), v_mask)
        k_pointers += tl.cast(k_strides[3], tl.int64) * BLOCK_M
        v_pointers += tl.cast(v_strides[3], tl.int64) * BLOCK_M
        dk_pointers += tl.cast(dk_strides[3], tl.int64) * BLOCK_M
        dv_pointers += tl.cast(dv_strides[3], tl.int64) * BLOCK_M


@triton.jit
@no_type_check
def _grad_keys(x, grad_weights, shared, peak, inverse, NORMALIZATION: tl.constexpr):
    """Normalised keys of a tile, which its values are multiplied by, and the gradients of its keys."""
    if NORMALIZATION == "softmax":
        weights = tl.exp(x - _finite(peak)[None, :]) * inverse[None, :]
        return weights, weights * (grad_weights - shared[None, :])
    if NORMALIZATION == "l2":
        weights = x * inverse[None, :]
        return weights, (grad_weights - weights * shared[None, :]) * inverse[None, :]
    return x, grad_weights


@triton.jit
@no_type_check
def _item(tensor, item, intra, strides):
    """A pointer to the beginning of one part of the intra-depth of one image."""
    place = tl.cast(item // intra, tl.int64) * strides[0] + tl.cast(item % intra, tl.int64) * strides[1]
    return tensor + place


@triton.jit
@no_type_check
def _offsets(rows, columns, row_stride, column_stride):
    """The offsets of the elements of a tile, in 64 bits."""
    return rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride


@triton.jit
@no_type_check
def _finite(peak):
    """A peak to subtract: a channel that holds nothing but -inf so far has none."""
    return tl.where(peak == float("-inf"), 0.0, peak)


@triton.jit
@no_type_check
def _normalize(total, sums, NORMALIZATION: tl.constexpr):
    """The norms of the keys, and the lambda."""
    if NORMALIZATION == "softmax":
        return total, sums / total[:, None]
    if NORMALIZATION == "l2":
        norm = tl.sqrt(total)
        return norm, sums / tl.maximum(norm, _EPSILON)[:, None]
    return total, sums


@triton.jit
@no_type_check
def _store(lambdas, norms, item, k, v, depths, peak, total, sums):
    """The results of the program's channels; each program of an item writes the same norms."""
    places = item * (2 * depths[0]) + k
    tl.store(norms + places, peak, k < depths[0])
    tl.store(norms + depths[0] + places, total, k < depths[0])
    places = (item * depths[0] + k[:, None]) * depths[1] + v[None, :]
    tl.store(lambdas + places, sums, (k < depths[0])[:, None] & (v < depths[1])[None, :])
