"""`content_output`: the content lambda, shared by all positions, applied to the queries."""

import math
from typing import Final

from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import Sizes, bind_shape, check_choice
from lambdanets.functional._dispatch import Implementation, Problem, choose_again
from lambdanets.functional._precision import outside_autocast
from lambdanets.functional.content import one_pass, reference
from lambdanets.functional.lambdas import KEY_NORMALIZATIONS, KeyNormalization

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (reference.IMPLEMENTATION, one_pass.IMPLEMENTATION)


def content_output(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b u k *context"],
    values: Float[Tensor, "b u v *context"],
    *,
    key_normalization: KeyNormalization = "softmax",
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Apply the content lambda, made from what the elements of the context are.

    λᶜ = Σₘ k̄ₘ vₘᵀ with K̄ normalised over the whole context, summed over the intra-depth, and
    yₙ = λᶜᵀ qₙ. Linear attention with several queries a position. Time and memory linear in n and m;
    `"one_pass"` keeps its inputs for backward and nothing else.

    Paper: §3.1, §B.4; Table 9 (content only); Table 11 for the normalisations.

    Args:
        queries: h queries for each position.
        keys: u key vectors for each context element; their map may differ from the queries'.
        values: u value vectors for each context element.
        key_normalization: How keys are normalised over the context; see `normalize_keys`. The queries
            are taken as they are: `normalize_queries` is for the caller, who needs them twice.
        impl: `"auto"`, `"one_pass"` or `"reference"`.

    Raises:
        ArgumentError: Shapes that do not fit, an unknown normalisation or implementation.

    Example:
        >>> y = content_output(torch.ones(2, 4, 16, 7, 5), torch.ones(2, 1, 16, 9), torch.ones(2, 1, 8, 9))
        >>> y.shape, round(y[0, 0, 0, 3, 2].item(), 3)
        (torch.Size([2, 4, 8, 7, 5]), 16.0)
    """
    who = "content_output"
    sizes: Sizes = {}
    bind_shape(who, "queries", queries, "b h k *size", sizes)
    bind_shape(who, "keys", keys, "b u k *context", sizes)
    bind_shape(who, "values", values, "b u v *context", sizes)
    check_choice(who, "key_normalization", key_normalization, KEY_NORMALIZATIONS)
    chosen = choose_again(IMPLEMENTATIONS, describe(queries, keys, values), impl)
    with outside_autocast(queries):
        return chosen.run(queries, keys, values, key_normalization)


def describe(queries: Tensor, keys: Tensor, values: Tensor) -> Problem:
    """The call as plain data, its context in the place of the scope."""
    b, h, k, *size = queries.shape
    u, v, *context = values.shape[1:]
    return Problem(
        operation="content_output",
        batch=b,
        heads=h,
        query_depth=k,
        intra_depth=u,
        value_depth=v,
        size=(math.prod(size),),
        scope=(math.prod(context),),
        dtype=values.dtype,
        device=values.device.type,
        backward=False,
        workspace=0,
    )
