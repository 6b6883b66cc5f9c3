"""The specification: normalised keys, and the content lambda."""

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional._keys import KeyNormalizer
from lambdanets.functional.lambdas import L2_EPSILON, content_lambda, normalize_keys
from lambdanets.notation import KeyNormalization


def summary(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization | KeyNormalizer,
) -> Float[Tensor, "b k v"]:
    """λᶜ = K̄ᵀ V, in the paper's order and at least in float32."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    normalized_keys = normalize_keys(keys.to(dtype).flatten(3), key_normalization)
    return content_lambda(normalized_keys, values.to(dtype).flatten(3))


def lambdas_by_part(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> Float[Tensor, "b u k v"]:
    """λ = K̄ᵀ V for each part of the intra-depth."""
    normalized_keys = normalize_keys(keys.flatten(3), key_normalization)
    dtype = torch.promote_types(values.dtype, normalized_keys.dtype)
    return torch.einsum("bukm,buvm->bukv", normalized_keys.to(dtype), values.flatten(3).to(dtype))


def run(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
) -> tuple[Float[Tensor, "b u k v"], Float[Tensor, "b u 2 k"]]:
    """The lambdas; it keeps no norms."""
    lambdas = lambdas_by_part(keys, values, key_normalization).contiguous()
    return lambdas, lambdas.new_zeros(*keys.shape[:2], 2, keys.shape[2])


def gradients(
    grad_out: Float[Tensor, "b u k v"],
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    lambdas: Float[Tensor, "b u k v"],
    norms: Float[Tensor, "b u 2 k"],
    key_normalization: KeyNormalization,
) -> tuple[Tensor, Tensor]:
    """dv = k̄ᵀ dλ; dk̄ = dλ v; dk of it, less what the normalisation takes from every key alike."""
    exact_keys = keys.to(grad_out.dtype).flatten(3)
    normalized_keys = normalize_keys(exact_keys, key_normalization)
    grad_values = torch.einsum("bukm,bukv->buvm", normalized_keys, grad_out)
    grad_keys = torch.einsum("bukv,buvm->bukm", grad_out, values.to(grad_out.dtype).flatten(3))
    if key_normalization != "none":
        shared = normalized_keys * (normalized_keys * grad_keys).sum(-1, keepdim=True)
        if key_normalization == "softmax":
            grad_keys = normalized_keys * grad_keys - shared
        else:
            norm = torch.linalg.vector_norm(exact_keys, dim=-1, keepdim=True)
            # Below the smallest norm the keys are divided by a constant.
            grad_keys = (grad_keys - shared.where(norm > L2_EPSILON, 0)) / norm.clamp_min(L2_EPSILON)
    return grad_keys.view(keys.shape), grad_values.view(values.shape)


def cost(problem: Problem, key_passes: int = 3) -> float:
    """2·b·m·u·k·v, with the keys moved several times and the values once."""
    device, m = rates(problem.device), problem.positions
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    flops = 2 * problem.batch * m * u * k * v
    moved = 4 * problem.batch * m * u * (key_passes * k + v)
    return flops / device.product_flops + moved / device.bytes + 4 * device.launch_seconds


IMPLEMENTATION = Implementation("reference", runs_everything, cost, run, gradients)
