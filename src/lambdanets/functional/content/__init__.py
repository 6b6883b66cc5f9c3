"""`content_summary`, the content lambda that all positions share, and `content_output`, which applies it."""

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import Sizes, bind_tensor
from lambdanets.functional._dispatch import Implementation, Problem, check_implementation, choose_again
from lambdanets.functional._keys import KeyNormalizer, check_key_normalization
from lambdanets.functional._layout import (
    channels_are_last,
    empty_in_order_of,
    from_rows,
    in_order_of,
    outside_autocast,
    product_precision,
    to_rows,
)
from lambdanets.functional._recompute import RecomputeOperator
from lambdanets.functional.content import one_pass, reference, triton
from lambdanets.notation import KeyNormalization

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (
    reference.IMPLEMENTATION,
    one_pass.IMPLEMENTATION,
    triton.IMPLEMENTATION,
)


def content_summary(
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    *,
    key_normalization: KeyNormalization | KeyNormalizer = "softmax",
    impl: str = "auto",
) -> Float[Tensor, "b k v"]:
    """Summarise the context once for all positions, by what its elements are.

    λᶜ = Σₘ k̄ₘ vₘᵀ with K̄ normalised over the whole context, summed over the intra-depth. Time linear
    in m; for backward the inputs are kept, and numbers whose count does not depend on m.

    Paper: §3.1, §B.4; Table 9 (content only); Table 11 for the normalisations.

    Args:
        keys: u key vectors for each context element.
        values: u value vectors for each context element.
        key_normalization: How keys are normalised over the context; see `normalize_keys`.
        impl: `"auto"`, `"one_pass"`, `"triton"` or `"reference"`. All are exact and differ by rounding. For a
            callable there is the reference alone, and its normalised keys are kept for backward.

    Returns:
        A k×v linear map for each image, in float32 at least: a mean over the context, which is long.

    Raises:
        ArgumentError: Shapes that do not fit, an unknown normalisation or implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type.
        NotImplementedError: The named implementation cannot run this call; the message says why.

    Example:
        >>> summary = content_summary(torch.ones(2, 1, 16, 9), torch.ones(2, 1, 8, 9))
        >>> summary.shape, round(summary[0, 0, 0].item(), 3)
        (torch.Size([2, 16, 8]), 1.0)
    """
    who = "content_summary"
    sizes: Sizes = {}
    bind_tensor(who, "keys", keys, "b u k *context", sizes)
    bind_tensor(who, "values", values, "b u v *context", sizes)
    return _summarise(who, keys, values, sizes["u"][0], key_normalization, impl)


def content_output(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    *,
    key_normalization: KeyNormalization | KeyNormalizer = "softmax",
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Apply the content lambda, made from what the elements of the context are.

    yₙ = λᶜᵀ qₙ with the λᶜ of `content_summary`. Linear attention with several queries a position. Time
    and memory linear in n and m; for backward the summary is kept beside what `content_summary` keeps.

    Paper: §3.1, §B.4; Table 9 (content only); Table 11 for the normalisations.

    Args:
        queries: h queries for each position.
        keys: u key vectors for each context element; their map may differ from the queries'.
        values: u value vectors for each context element.
        key_normalization: How keys are normalised over the context; see `normalize_keys`. The queries
            are taken as they are: `normalize_queries` is for the caller, who needs them twice.
        impl: As in `content_summary`.

    Raises:
        ArgumentError: Shapes that do not fit, an unknown normalisation or implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type.
        NotImplementedError: The named implementation cannot run this call; the message says why.

    Example:
        >>> y = content_output(torch.ones(2, 4, 16, 7, 5), torch.ones(2, 1, 16, 9), torch.ones(2, 1, 8, 9))
        >>> y.shape, round(y[0, 0, 0, 3, 2].item(), 3)
        (torch.Size([2, 4, 8, 7, 5]), 16.0)
    """
    who = "content_output"
    sizes: Sizes = {}
    bind_tensor(who, "queries", queries, "b h k *size", sizes)
    bind_tensor(who, "keys", keys, "b u k *context", sizes)
    bind_tensor(who, "values", values, "b u v *context", sizes)
    return apply_summary(queries, _summarise(who, keys, values, sizes["u"][0], key_normalization, impl))


def _summarise(
    who: str,
    keys: Tensor,
    values: Tensor,
    u: int,
    key_normalization: KeyNormalization | KeyNormalizer,
    impl: str,
) -> Float[Tensor, "b k v"]:
    check_key_normalization(who, key_normalization)
    check_implementation(who, IMPLEMENTATIONS, impl)
    if callable(key_normalization):
        # To see that a named implementation can run; autograd differentiates what the caller has written.
        choose_again(IMPLEMENTATIONS, describe(keys, values)._replace(normalizes_by_name=False), impl)
        with outside_autocast(values):
            return reference.summary(keys, values, key_normalization)
    normalization = "softmax" if key_normalization == "softmax_keys_and_queries" else key_normalization
    lambdas: Tensor = _content_lambdas(keys, values, normalization, impl)[0]
    return lambdas.squeeze(1) if u == 1 else lambdas.sum(1)


class _ContentLambdas(RecomputeOperator):
    """λ = K̄ᵀ V for each part of the intra-depth, "b u k v", and what is kept of the keys, "b u 2 k"."""

    name = "content_lambdas"
    tensors = ("Tensor keys", "Tensor values")
    options = ("str key_normalization", "str impl")
    num_kept = 2

    def run(self, keys: Tensor, values: Tensor, key_normalization: str, impl: str) -> tuple[Tensor, Tensor]:
        chosen = choose_again(IMPLEMENTATIONS, describe(keys, values), impl)
        with outside_autocast(values):
            return chosen.run(keys, values, key_normalization)

    def gradients(
        self,
        grad_out: Tensor,
        keys: Tensor,
        values: Tensor,
        lambdas: Tensor,
        norms: Tensor,
        needs_grad: Sequence[bool],
        key_normalization: str,
        impl: str,
    ) -> tuple[Tensor, ...]:
        """By the implementation that kept the norms: it is chosen for the same problem."""
        chosen = choose_again(IMPLEMENTATIONS, describe(keys, values), impl)
        assert chosen.gradients is not None
        with outside_autocast(values):
            grads = chosen.gradients(grad_out, keys, values, lambdas, norms, key_normalization)
        first, second = (
            in_order_of(grad, like).to(like.dtype) for grad, like in zip(grads, (keys, values), strict=True)
        )
        return first, second

    def fake(self, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        b, u, k = keys.shape[:3]
        dtype = torch.promote_types(values.dtype, torch.float32)
        lambdas = values.new_empty(b, u, k, values.shape[2], dtype=dtype)
        return lambdas, values.new_empty(b, u, 2, k, dtype=dtype)

    def fake_gradients(self, grad_out: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        return tuple(empty_in_order_of(one, *one.shape[1:3]) for one in arguments[:2])

    def reference(
        self, keys: Tensor, values: Tensor, key_normalization: KeyNormalization, impl: str
    ) -> Tensor:
        return reference.lambdas_by_part(keys, values, key_normalization)

    def flops(self, keys: Any, values: Any, *_: Any, **__: Any) -> int:
        """One product; its backward has two."""
        return 2 * math.prod(keys) * values[2]


_content_lambdas: Final = _ContentLambdas()


def apply_summary(
    queries: Float[Tensor, "b h k *size"], summary: Float[Tensor, "b k v"]
) -> Float[Tensor, "b h v *size"]:
    """yₙ = λᶜᵀ qₙ as one matrix product of the queries as they lie in memory; the output lies as they do."""
    dtype = product_precision(queries)
    with outside_autocast(queries):
        precise, summary = queries.to(dtype), summary.to(dtype)
        if channels_are_last(queries):
            return from_rows(to_rows(precise) @ summary, queries).to(queries.dtype)
        output = torch.matmul(summary.mT.unsqueeze(1), precise.flatten(3))  # b h v n
        return output.unflatten(-1, queries.shape[3:]).to(queries.dtype)


def describe(keys: Tensor, values: Tensor) -> Problem:
    """The call as plain data, for one image: each gets the same whatever else is in its batch."""
    _, u, k, *context = keys.shape
    v, m = values.shape[2], (math.prod(context),)
    return Problem("content_summary", 1, 1, k, u, v, m, m, values.dtype, values.device.type)
