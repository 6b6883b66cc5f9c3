"""The paper's equations, one function each: normalised keys, lambdas, and lambdas applied."""

from typing import Final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lambdanets.errors import Sizes, bind_shape, bind_tensor, bind_type, check_positive
from lambdanets.functional._keys import KeyNormalizer, check_key_normalization, normalize_by
from lambdanets.notation import KeyNormalization

# The smallest norm the l2 normalisation divides by.
L2_EPSILON: Final = 1e-12


def normalize_keys(
    keys: Float[Tensor, "b u k m"], key_normalization: KeyNormalization | KeyNormalizer = "softmax"
) -> Float[Tensor, "b u k m"]:
    """Normalise each key channel over the context, so that the content lambda is a mean and not a sum.

    Computed in float32 at least; float64 stays float64.

    Paper: §3.1; Table 11.

    Args:
        keys: One key vector per context element.
        key_normalization: `"softmax"` over m (also for `"softmax_keys_and_queries"`, whose queries
            `normalize_queries` serves), `"l2"` over m, `"none"`, or a callable such as `torch.softmax`: it
            takes the keys, in float32 at least, and `dim=-1`, and gives keys of the same shape.

    Raises:
        ArgumentError: Another shape, an unknown normalisation, one that gives another shape.
        ArgumentTypeError: Keys that are no tensor of floating-point numbers.
    """
    bind_type("normalize_keys", "keys", keys, {})
    if keys.ndim != 4:
        bind_shape("normalize_keys", "keys", keys, "b u k m", {})
    check_key_normalization("normalize_keys", key_normalization)
    keys = keys.to(torch.promote_types(keys.dtype, torch.float32))
    if callable(key_normalization):
        return normalize_by("normalize_keys", key_normalization, keys)
    if key_normalization == "none":
        return keys
    if key_normalization == "l2":
        return torch.nn.functional.normalize(keys, dim=-1, eps=L2_EPSILON)
    return keys.softmax(dim=-1)


def normalize_queries(
    queries: Float[Tensor, "b h k *size"], key_normalization: KeyNormalization | KeyNormalizer = "softmax"
) -> Float[Tensor, "b h k *size"]:
    """Softmax over k for `"softmax_keys_and_queries"`; the queries as they are for every other choice.

    Paper: Table 11 (as in linear attention).

    Raises:
        ArgumentError: Another shape, an unknown normalisation.
        ArgumentTypeError: Queries that are no tensor of floating-point numbers.
    """
    bind_type("normalize_queries", "queries", queries, {})
    if queries.ndim < 4:
        bind_shape("normalize_queries", "queries", queries, "b h k *size", {})
    check_key_normalization("normalize_queries", key_normalization)
    return queries.softmax(dim=2) if key_normalization == "softmax_keys_and_queries" else queries


def content_lambda(
    normalized_keys: Float[Tensor, "b u k m"], values: Float[Tensor, "b u v m"]
) -> Float[Tensor, "b k v"]:
    """Summarise the context once for all queries, by what its elements are.

    λᶜ = Σₘ k̄ₘ vₘᵀ, summed over the intra-depth. Blind to the order of the context.

    Paper: §3.1, §B.4; Table 9 (content only).

    Returns:
        A k×v linear map for each image.

    Raises:
        ArgumentError: Shapes that do not fit.
        ArgumentTypeError: Tensors that are not of one floating-point type.
    """
    sizes: Sizes = {}
    bind_tensor("content_lambda", "normalized_keys", normalized_keys, "b u k m", sizes)
    bind_tensor("content_lambda", "values", values, "b u v m", sizes)
    return torch.einsum("bukm,buvm->bkv", normalized_keys, values)


def position_lambdas(
    values: Float[Tensor, "b u v m"], embeddings: Float[Tensor, "n m u k"]
) -> Float[Tensor, "b n k v"]:
    """Summarise the context once for each query position, by where its elements stand.

    λᵖₙ = Σₘ eₙₘ vₘᵀ, summed over the intra-depth. Linear in the values; no softmax.

    Paper: §3.1, §B.4; Table 9 (position only).

    Args:
        values: One value vector per context element.
        embeddings: One embedding per (query, context) pair. Zero means out of scope.

    Returns:
        A k×v linear map for every query position: b·n·k·v numbers, the largest tensor of the layer.

    Raises:
        ArgumentError: Shapes that do not fit.
        ArgumentTypeError: Tensors that are not of one floating-point type.
    """
    sizes: Sizes = {}
    bind_tensor("position_lambdas", "values", values, "b u v m", sizes)
    bind_tensor("position_lambdas", "embeddings", embeddings, "n m u k", sizes)
    return torch.einsum("nmuk,buvm->bnkv", embeddings, values)


def apply_lambdas(
    queries: Float[Tensor, "b h k n"], lambdas: Float[Tensor, "b k v"] | Float[Tensor, "b n k v"]
) -> Float[Tensor, "b h v n"]:
    """yₙ = λₙᵀ qₙ, the same lambda for each of the h queries of a position.

    Paper: §3.1, §3.3 (multi-query).

    Args:
        queries: h queries per position.
        lambdas: One linear map for all positions, or one for each.

    Raises:
        ArgumentError: Shapes that do not fit.
        ArgumentTypeError: Tensors that are not of one floating-point type.
    """
    sizes: Sizes = {}
    bind_tensor("apply_lambdas", "queries", queries, "b h k n", sizes)
    bind_type("apply_lambdas", "lambdas", lambdas, sizes)
    if lambdas.ndim == 3:
        bind_shape("apply_lambdas", "lambdas", lambdas, "b k v", sizes)
        return torch.einsum("bhkn,bkv->bhvn", queries, lambdas)
    bind_shape("apply_lambdas", "lambdas", lambdas, "b n k v", sizes)
    return torch.einsum("bhkn,bnkv->bhvn", queries, lambdas)


def channel_lambda(weights: Float[Tensor, "b k"]) -> Float[Tensor, "b k k"]:
    """Channel attention (squeeze-and-excitation, FiLM) as a lambda: y_nk = w_k q_nk.

    A diagonal map shared by all positions.

    Paper: §C.4.

    Raises:
        ArgumentError: Another shape.
        ArgumentTypeError: Weights that are no tensor of floating-point numbers.
    """
    bind_tensor("channel_lambda", "weights", weights, "b k", {})
    return torch.diag_embed(weights)


def spatial_lambdas(weights: Float[Tensor, "b n"], query_depth: int) -> Float[Tensor, "b n k k"]:
    """Spatial attention as lambdas: y_nk = w_n q_nk.

    A multiple of the identity for each position.

    Paper: §C.4.

    Args:
        weights: One weight for each position.
        query_depth: k.

    Raises:
        ArgumentError: Another shape, a depth below 1.
        ArgumentTypeError: Weights that are no tensor of floating-point numbers.
    """
    bind_tensor("spatial_lambdas", "weights", weights, "b n", {})
    check_positive("spatial_lambdas", query_depth=query_depth)
    identity: Shaped[Tensor, "k k"] = torch.eye(query_depth, dtype=weights.dtype, device=weights.device)
    return weights[:, :, None, None] * identity
