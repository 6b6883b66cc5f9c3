"""One pass over the context, in parts that are joined by their norms; backward from the inputs."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, default_workspace, needs_a_name
from lambdanets.functional._layout import chunks
from lambdanets.functional.content import reference
from lambdanets.functional.lambdas import L2_EPSILON, normalize_keys
from lambdanets.notation import KeyNormalization


class _Summary(NamedTuple):
    """The sums over a context, or a part of it.

    Attributes:
        norm: What keys are normalised by: the logarithm of a softmax's sum, or the l2 norm. None for a
            softmax over a context of one part, which needs none.
        lambdas: Σₘ k̄ₘ vₘᵀ for each intra-depth.
    """

    norm: Float[Tensor, "b u k 1"] | None
    lambdas: Float[Tensor, "b u k v"]


def run(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> tuple[Float[Tensor, "b u k v"], Float[Tensor, "b u 2 k"]]:
    """λ = K̄ᵀ V; the norms are computed again in backward, so what is kept of them is not read."""
    lambdas = _summarise(keys, values, key_normalization).lambdas
    return lambdas, lambdas.new_zeros(*keys.shape[:2], 2, keys.shape[2])


def gradients(
    grad_out: Float[Tensor, "b u k v"],
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    lambdas: Float[Tensor, "b u k v"],
    norms: Float[Tensor, "b u 2 k"],
    key_normalization: KeyNormalization,
) -> tuple[Tensor, Tensor]:
    """dv = k̄ᵀ dλ; dk̄ = dλ v, and of it the gradient of the normalisation."""
    norm = _norm(keys, values, key_normalization)
    # What the normalisation takes from every key alike: Σₘ k̄ₘ dk̄ₘ.
    shared = (grad_out * lambdas).sum(-1, keepdim=True)
    grad_keys, grad_values = [], []
    for key_part, value_part in _parts(keys, values):
        weights = _weights(key_part, norm, key_normalization)
        grad_values.append(weights.mT @ grad_out)  # b u m v
        grad_part = (value_part.mT @ grad_out.mT).mT  # of the weights, b u k m
        if key_normalization == "softmax":
            grad_part = weights * (grad_part - shared)
        elif key_normalization == "l2":
            assert norm is not None
            # Below the smallest norm the keys are divided by a constant.
            inside = torch.where(norm > L2_EPSILON, grad_part - weights * shared, grad_part)
            grad_part = inside / norm.clamp_min(L2_EPSILON)
        grad_keys.append(grad_part.mT)
    first, second = (
        torch.cat(parts, dim=2).mT.unflatten(3, like.shape[3:])
        for parts, like in ((grad_keys, keys), (grad_values, values))
    )
    return first, second


def _summarise(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> _Summary:
    total: _Summary | None = None
    for key_part, value_part in _parts(keys, values):
        norm = _part_norm(keys, key_part, key_normalization)
        part = _Summary(norm, _weights(key_part, norm, key_normalization) @ value_part.mT)
        total = part if total is None else _join(total, part, key_normalization)
    assert total is not None
    return total


def _norm(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> Float[Tensor, "b u k 1"] | None:
    """The norm of a whole context alone."""
    total = None
    for key_part, _ in _parts(keys, values):
        norm = _part_norm(keys, key_part, key_normalization)
        total = norm if total is None or norm is None else _join_norms(total, norm, key_normalization)
    return total


def _part_norm(
    keys: Float[Tensor, "b u k *context"],
    part: Float[Tensor, "b u k m"],
    key_normalization: KeyNormalization,
) -> Float[Tensor, "b u k 1"] | None:
    if key_normalization == "l2":
        return torch.linalg.vector_norm(part, dim=-1, keepdim=True)
    if key_normalization == "none":
        return part.new_ones(*part.shape[:3], 1)
    return None if part.shape[3] == keys.shape[3:].numel() else part.logsumexp(-1, keepdim=True)


def _weights(
    keys: Float[Tensor, "b u k m"],
    norm: Float[Tensor, "b u k 1"] | None,
    key_normalization: KeyNormalization,
) -> Float[Tensor, "b u k m"]:
    if norm is None:
        return normalize_keys(keys)
    return (keys - norm).exp() if key_normalization == "softmax" else keys / norm.clamp_min(L2_EPSILON)


def _join(total: _Summary, part: _Summary, key_normalization: KeyNormalization) -> _Summary:
    """Both summaries relative to the norm of the two parts together."""
    assert total.norm is not None and part.norm is not None
    norm = _join_norms(total.norm, part.norm, key_normalization)
    if key_normalization == "softmax":
        scales = (total.norm - norm).exp(), (part.norm - norm).exp()
    else:
        smallest, first, second = (one.clamp_min(L2_EPSILON) for one in (norm, total.norm, part.norm))
        scales = first / smallest, second / smallest
    return _Summary(norm, total.lambdas * scales[0] + part.lambdas * scales[1])


def _join_norms(
    first: Float[Tensor, "b u k 1"], second: Float[Tensor, "b u k 1"], key_normalization: KeyNormalization
) -> Float[Tensor, "b u k 1"]:
    if key_normalization == "none":
        return first
    return torch.logaddexp(first, second) if key_normalization == "softmax" else torch.hypot(first, second)


def _parts(keys: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys "b u k m" and values "b u v m" of parts of the context, whose copies fit a workspace."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    keys, values = keys.flatten(3), values.flatten(3)
    element_bytes = 2 * dtype.itemsize * keys.shape[0] * keys.shape[1] * (keys.shape[2] + values.shape[2])
    for part in chunks(keys.shape[3], element_bytes, default_workspace(keys.device.type)):
        yield keys[..., part].to(dtype), values[..., part].to(dtype)


IMPLEMENTATION = Implementation(
    "one_pass",
    # There must be a largest key.
    why_not=lambda problem: (
        needs_a_name(problem) or (None if problem.positions else "needs a context of one element or more")
    ),
    # The keys are read once and their weights written.
    cost=lambda problem: reference.cost(problem, key_passes=2),
    run=run,
    gradients=gradients,
)
