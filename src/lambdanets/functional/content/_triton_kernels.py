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
(u, m), `depths` (k, v), `span` a multiple of M. K and V are powers of two; products are made in NUMBER,
sums in SUM.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl

from lambdanets.functional._triton_kernels import SUM, product
from lambdanets.functional.lambdas import L2_EPSILON

# What products are made in: gradients of lambdas are sums over a map, which float16 might not hold.
NUMBER = SUM | {torch.bfloat16: tl.bfloat16}

EPSILON = tl.constexpr(L2_EPSILON)


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
    M: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    NORMALIZATION: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
    NUMBER: tl.constexpr,
    SUM: tl.constexpr,
):
    """What a span of the context comes to in V channels; where the span is the WHOLE context, the lambda."""
    parts = tl.cdiv(counts[1], span)
    number = tl.program_id(0)
    item, first = number // parts, number % parts * span
    m, k, v = first + tl.arange(0, M), tl.arange(0, K), tl.program_id(1) * V + tl.arange(0, V)
    k_pointers = _item(keys, item, counts[0], k_strides) + _tile(m, k, k_strides[3], k_strides[2])
    v_pointers = _item(values, item, counts[0], v_strides) + _tile(m, v, v_strides[3], v_strides[2])
    peak = tl.full((K,), float("-inf") if NORMALIZATION == "softmax" else 0.0, SUM)
    total = tl.zeros((K,), SUM)
    sums = tl.zeros((K, V), SUM)
    for start in range(first, tl.minimum(first + span, counts[1]), M):
        on = start + tl.arange(0, M) < counts[1]
        x = tl.load(k_pointers, on[:, None] & (k < depths[0])[None, :], 0.0).to(SUM)  # M K
        seen = tl.load(v_pointers, on[:, None] & (v < depths[1])[None, :], 0.0).to(NUMBER)  # M V
        if NORMALIZATION == "softmax":
            x = tl.where(on[:, None], x, float("-inf"))
            higher = tl.maximum(peak, tl.max(x, 0))
            share = tl.exp(peak - _finite(higher))
            weights = tl.exp(x - _finite(higher)[None, :]).to(NUMBER)
            peak, total, sums = higher, total * share, sums * share[:, None]
            # What the values are multiplied by adds up to one, rounded as it is.
            total += tl.sum(weights.to(SUM), 0)
        else:
            weights = x.to(NUMBER)
            if NORMALIZATION == "l2":
                total += tl.sum(x * x, 0)
        sums = product(tl.trans(weights), seen, sums, PRECISION)
        k_pointers += tl.cast(k_strides[3], tl.int64) * M
        v_pointers += tl.cast(v_strides[3], tl.int64) * M
    if WHOLE:
        total, sums = _divided(total, sums, NORMALIZATION)
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
    PARTS: tl.constexpr,
    V: tl.constexpr,
    NORMALIZATION: tl.constexpr,
):
    """The lambda of one key channel and V value channels, from all spans of the context."""
    item, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    part, v = tl.arange(0, PARTS), tl.program_id(2) * V + tl.arange(0, V)
    pointers = partial_norms + (item * parts + part) * (2 * depths[0]) + k
    peaks = tl.load(pointers, part < parts, float("-inf"))  # PARTS
    totals = tl.load(pointers + depths[0], part < parts, 0.0)
    pointers = partial + ((item * parts + part) * depths[0] + k)[:, None] * depths[1] + v[None, :]
    sums = tl.load(pointers, (part < parts)[:, None] & (v < depths[1])[None, :], 0.0)  # PARTS V
    peak = tl.max(peaks, 0)
    share = tl.exp(peaks - _finite(peak))
    total, found = tl.sum(totals * share, 0), tl.sum(sums * share[:, None], 0)
    k = k + tl.arange(0, 1)
    total, found = _divided(total + tl.zeros((1,), total.dtype), found[None, :], NORMALIZATION)
    _store(lambdas, norms, item, k, v, depths, peak + tl.zeros((1,), total.dtype), total, found)


@triton.jit
@no_type_check
def gradients_kernel(
    gradient,
    keys,
    values,
    lambdas,
    norms,
    of_keys,
    of_values,
    counts,
    depths,
    span,
    g_strides,
    k_strides,
    v_strides,
    ok_strides,
    ov_strides,
    M: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    NORMALIZATION: tl.constexpr,
    PRECISION: tl.constexpr,
    NUMBER: tl.constexpr,
    SUM: tl.constexpr,
):
    """Gradients of the keys and values of a span of the context; V holds all value channels."""
    parts = tl.cdiv(counts[1], span)
    item, first = tl.program_id(0) // parts, tl.program_id(0) % parts * span
    m, k, v = first + tl.arange(0, M), tl.arange(0, K), tl.arange(0, V)
    inside = (k < depths[0])[:, None] & (v < depths[1])[None, :]
    outer = _item(gradient, item, counts[0], g_strides) + _tile(k, v, g_strides[2], g_strides[3])
    outer = tl.load(outer, inside, 0.0).to(NUMBER)  # K V
    places = item.to(tl.int64) * depths[0] * depths[1] + k[:, None] * depths[1] + v[None, :]
    # Of the gradient as it is rounded for the products, from which it is taken.
    shared = tl.sum(outer.to(SUM) * tl.load(lambdas + places, inside, 0.0), 1)  # K
    places = item.to(tl.int64) * (2 * depths[0]) + k
    peak = tl.load(norms + places, k < depths[0], 0.0)
    total = tl.load(norms + depths[0] + places, k < depths[0], 1.0)
    inverse = total
    if NORMALIZATION == "l2":
        # Below the smallest norm the keys are divided by a constant.
        shared, inverse = tl.where(total > EPSILON, shared, 0.0), 1.0 / tl.maximum(total, EPSILON)
    if NORMALIZATION == "softmax":
        inverse = 1.0 / total
    k_pointers = _item(keys, item, counts[0], k_strides) + _tile(m, k, k_strides[3], k_strides[2])
    v_pointers = _item(values, item, counts[0], v_strides) + _tile(m, v, v_strides[3], v_strides[2])
    ok_pointers = _item(of_keys, item, counts[0], ok_strides) + _tile(m, k, ok_strides[3], ok_strides[2])
    ov_pointers = _item(of_values, item, counts[0], ov_strides) + _tile(m, v, ov_strides[3], ov_strides[2])
    for start in range(first, tl.minimum(first + span, counts[1]), M):
        on = start + tl.arange(0, M) < counts[1]
        k_mask, v_mask = on[:, None] & (k < depths[0])[None, :], on[:, None] & (v < depths[1])[None, :]
        x = tl.load(k_pointers, k_mask, 0.0).to(SUM)  # M K
        seen = tl.load(v_pointers, v_mask, 0.0).to(NUMBER)  # M V
        of_weights = product(seen, tl.trans(outer), tl.zeros((M, K), SUM), PRECISION)
        weights, of_x = _of_keys(x, of_weights, shared, peak, inverse, NORMALIZATION)
        tl.store(ok_pointers, of_x.to(of_keys.dtype.element_ty), k_mask)
        of_seen = product(weights.to(NUMBER), outer, tl.zeros((M, V), SUM), PRECISION)
        tl.store(ov_pointers, of_seen.to(of_values.dtype.element_ty), v_mask)
        k_pointers += tl.cast(k_strides[3], tl.int64) * M
        v_pointers += tl.cast(v_strides[3], tl.int64) * M
        ok_pointers += tl.cast(ok_strides[3], tl.int64) * M
        ov_pointers += tl.cast(ov_strides[3], tl.int64) * M


@triton.jit
@no_type_check
def _of_keys(x, of_weights, shared, peak, inverse, NORMALIZATION: tl.constexpr):
    """What the values of a tile are multiplied by, and the gradients of its keys."""
    if NORMALIZATION == "softmax":
        weights = tl.exp(x - _finite(peak)[None, :]) * inverse[None, :]
        return weights, weights * (of_weights - shared[None, :])
    if NORMALIZATION == "l2":
        weights = x * inverse[None, :]
        return weights, (of_weights - weights * shared[None, :]) * inverse[None, :]
    return x, of_weights


@triton.jit
@no_type_check
def _item(tensor, item, intra, strides):
    """A pointer to the beginning of one part of the intra-depth of one image."""
    place = tl.cast(item // intra, tl.int64) * strides[0] + tl.cast(item % intra, tl.int64) * strides[1]
    return tensor + place


@triton.jit
@no_type_check
def _tile(rows, columns, row_stride, column_stride):
    """Where the elements of a tile are, in 64 bits."""
    return rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride


@triton.jit
@no_type_check
def _finite(peak):
    """A peak to subtract: a channel that holds nothing but -inf so far has none."""
    return tl.where(peak == float("-inf"), 0.0, peak)


@triton.jit
@no_type_check
def _divided(total, sums, NORMALIZATION: tl.constexpr):
    """What keys are normalised by, and the lambda."""
    if NORMALIZATION == "softmax":
        return total, sums / total[:, None]
    if NORMALIZATION == "l2":
        norm = tl.sqrt(total)
        return norm, sums / tl.maximum(norm, EPSILON)[:, None]
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
