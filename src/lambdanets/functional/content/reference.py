"""The specification: normalised keys, and the content lambda."""

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional.lambdas import content_lambda, normalize_keys
from lambdanets.notation import KeyNormalization


def run(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    key_normalization: KeyNormalization,
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
    return torch.einsum("bukm,buvm->bukv", normalized_keys, values.flatten(3).to(normalized_keys.dtype))


def cost(problem: Problem, key_passes: int = 3) -> float:
    """2·b·m·u·k·v, with the keys moved several times and the values once."""
    device, m = rates(problem.device), problem.positions
    k, u, v = problem.query_depth, problem.intra_depth, problem.value_depth
    flops = 2 * problem.batch * m * u * k * v
    moved = 4 * problem.batch * m * u * (key_passes * k + v)
    return flops / device.product_flops + moved / device.bytes + 4 * device.launch_seconds


IMPLEMENTATION = Implementation("reference", runs_everything, cost, run)
