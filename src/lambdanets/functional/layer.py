"""`lambda_layer`: the paper's Figure 3 for any context, embeddings and mask; and one with heads."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_shape, bind_tensor, check_mask
from lambdanets.functional._keys import KeyNormalizer, check_key_normalization, normalize_by
from lambdanets.functional._layout import outside_autocast
from lambdanets.functional.lambdas import (
    apply_lambdas,
    content_lambda,
    normalize_keys,
    normalize_queries,
    position_lambdas,
)
from lambdanets.notation import KeyNormalization


def lambda_layer(
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b u k m"] | None,
    values: Float[Tensor, "b u v m"],
    embeddings: Float[Tensor, "n m u k"] | None,
    mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"] | None = None,
    *,
    key_normalization: KeyNormalization | KeyNormalizer = "softmax",
) -> Float[Tensor, "b h v n"]:
    """Turn the context into one linear map per query and apply it.

    λₙ = Σₘ (k̄ₘ + eₙₘ) vₘᵀ, summed over the intra-depth, and yₙ = λₙᵀ qₙ. Under a mask the sum runs
    over the elements the query sees, and its keys are normalised over these alone; a query that sees
    nothing returns exactly zero, and what it does not see may be anything. Computed in float32 at least.

    Memory b·n·k·v for the lambdas, and b·n·m·u·k under a mask: the general form, not the fast one.

    Paper: §3.1, Figure 3; §B.2 (masks); §B.4 (intra-depth); Tables 9 and 11.
    Departs: the paper's masked listing takes keys that are normalised already, over all elements.

    Args:
        queries: h queries per position.
        keys: One key per context element; None leaves out the content lambda.
        values: One value vector per context element.
        embeddings: One embedding per (query, context) pair; None leaves out the position lambdas.
        mask: True where a query sees a context element.
        key_normalization: `"softmax"`, `"softmax_keys_and_queries"`, `"l2"`, `"none"`, or a callable, as in
            `normalize_keys`. Under a mask it gets keys "b u k n m", each query's, zero where hidden, and
            beside `dim=-1` a boolean `mask` that broadcasts with them; what it gives for hidden keys is not
            used.

    Raises:
        ArgumentError: Shapes that do not fit, neither keys nor embeddings, an unknown normalisation.
        ArgumentTypeError: Tensors that are not of one floating-point type; a mask that is not boolean.

    Example:
        >>> q, k, v = torch.ones(1, 2, 3, 5), torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 6, 4)
        >>> lambda_layer(q, k, v, None)[0, 0, 0].tolist()
        [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    _check(queries, keys, values, embeddings, mask)
    check_key_normalization("lambda_layer", key_normalization)
    dtype = torch.promote_types(queries.dtype, torch.float32)
    with outside_autocast(queries):
        q, values = normalize_queries(queries.to(dtype), key_normalization), values.to(dtype)
        output = q.new_zeros(())
        if keys is not None and mask is None:
            normalized_keys = normalize_keys(keys.to(dtype), key_normalization)
            output = output + apply_lambdas(q, content_lambda(normalized_keys, values))
        elif keys is not None and mask is not None:
            visible = _normalize_visible_keys(keys.to(dtype), mask, key_normalization)
            seen, spoilt = _seen_values(values, mask)
            lambdas = torch.einsum("buknm,buvm->bnkv", visible, seen)
            output = output + apply_lambdas(q, lambdas).masked_fill(spoilt, torch.nan)
        if embeddings is not None:
            visible = embeddings.to(dtype)
            if mask is not None:
                visible = visible.masked_fill(~mask[..., None, None], 0)  # (b) n m u k
            seen, spoilt = _seen_values(values, (visible != 0).flatten(-2).any(-1))
            if visible.ndim == 4:
                lambdas = position_lambdas(seen, visible)
            else:
                lambdas = torch.einsum("bnmuk,buvm->bnkv", visible, seen)
            output = output + apply_lambdas(q, lambdas).masked_fill(spoilt, torch.nan)
        return output.to(queries.dtype)


def _seen_values(
    values: Float[Tensor, "b u v m"], mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"]
) -> tuple[Float[Tensor, "b u v m"], Bool[Tensor, "b 1 v n"]]:
    """Values to be summed with zeros for those that are not finite, and the outputs that see one of these.

    A product with zero would carry them to queries that do not see them.
    """
    finite = values.isfinite()
    letters = "nm,buvm->bvn" if mask.ndim == 2 else "bnm,buvm->bvn"
    seen = torch.einsum(letters, mask.to(values.dtype), (~finite).to(values.dtype))
    return values.where(finite, 0), (seen > 0).unsqueeze(1)


def _normalize_visible_keys(
    keys: Float[Tensor, "b u k m"],
    mask: Bool[Tensor, "n m"] | Bool[Tensor, "b n m"],
    key_normalization: KeyNormalization | KeyNormalizer,
) -> Float[Tensor, "b u k n m"]:
    """Normalise the keys for each query over the elements it sees; zero elsewhere.

    Paper: §B.2.
    """
    visible_mask = mask if mask.ndim == 2 else mask[:, None, None]  # (b 1 1) n m
    if callable(key_normalization):
        visible = keys[..., None, :].masked_fill(~visible_mask, 0)
        normalized = normalize_by("lambda_layer", key_normalization, visible, mask=visible_mask)
        return normalized.masked_fill(~visible_mask, 0)
    if key_normalization in ("l2", "none"):
        visible = keys[..., None, :].masked_fill(~visible_mask, 0).flatten(0, 1)
        return normalize_keys(visible, key_normalization).unflatten(0, keys.shape[:2])
    # The lowest finite number instead of -inf: a row without a visible element stays finite, and
    # becomes zero in the product, in its gradient too.
    lowest = torch.finfo(keys.dtype).min
    return keys[..., None, :].masked_fill(~visible_mask, lowest).softmax(dim=-1) * visible_mask


def multihead_lambda_layer(
    queries: Float[Tensor, "b h k n"],
    keys: Float[Tensor, "b h k m"],
    values: Float[Tensor, "b h v m"],
    embeddings: Float[Tensor, "h n m k"],
    *,
    key_normalization: KeyNormalization | KeyNormalizer = "softmax",
) -> Float[Tensor, "b h v n"]:
    """Give each head its own keys, values and embeddings: h single-query layers side by side.

    Time b·n·m·k·v·h and memory b·n·k·v·h: h times the multi-query layer of the same depths.

    Paper: §B.3; Table 6.

    Raises:
        ArgumentError: Shapes that do not fit, an unknown normalisation.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q, k, v = torch.ones(1, 2, 3, 5), torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 6, 4)
        >>> multihead_lambda_layer(q, k, v, torch.zeros(2, 5, 4, 3)).shape
        torch.Size([1, 2, 6, 5])
    """
    who = "multihead_lambda_layer"
    sizes: Sizes = {}
    bind_tensor(who, "queries", queries, "b h k n", sizes)
    bind_tensor(who, "keys", keys, "b h k m", sizes)
    bind_tensor(who, "values", values, "b h v m", sizes)
    bind_tensor(who, "embeddings", embeddings, "h n m k", sizes)
    heads = [
        lambda_layer(
            queries[:, i : i + 1],
            keys[:, i : i + 1],
            values[:, i : i + 1],
            embeddings[i].unsqueeze(2),
            key_normalization=key_normalization,
        )
        for i in range(queries.shape[1])
    ]
    with outside_autocast(queries):
        return torch.cat(heads, dim=1)


def _check(
    queries: Tensor, keys: Tensor | None, values: Tensor, embeddings: Tensor | None, mask: Tensor | None
) -> None:
    who = "lambda_layer"
    if keys is None and embeddings is None:
        raise ArgumentError(f"{who}: keys or embeddings must be given, got None for both.")
    sizes: Sizes = {}
    bind_tensor(who, "queries", queries, "b h k n", sizes)
    if keys is not None:
        bind_tensor(who, "keys", keys, "b u k m", sizes)
    bind_tensor(who, "values", values, "b u v m", sizes)
    if embeddings is not None:
        bind_tensor(who, "embeddings", embeddings, "n m u k", sizes)
    if mask is None:
        return
    check_mask(who, mask)
    bind_shape(who, "mask", mask, "n m" if mask.ndim == 2 else "b n m", sizes)
