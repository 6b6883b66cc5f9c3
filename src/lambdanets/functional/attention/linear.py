"""`linear_attention`: queries and keys normalised apart, the context summarised before it is asked."""

from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import Sizes
from lambdanets.functional.attention.heads import check_heads
from lambdanets.functional.content import content_output
from lambdanets.functional.lambdas import normalize_queries


def linear_attention(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    *,
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Summarise the context of each head into one matrix and read it by normalised queries.

    yₙ = (Σₘ softmaxₘ(k)ₘ vₘᵀ)ᵀ softmax_k(qₙ): for each head a content lambda, whose keys are normalised over
    the context and whose queries over their channels. Several heads are Shen's efficient attention, one head
    is Chen's double attention (gather, then distribute). `content_output` is the one with a softmax on the
    keys alone and several queries for one lambda. Time b·h·(n + m)·k·v.

    Paper: §2, §C.4; Table 3 (linear attention); Table 11 for softmax on keys and queries.

    Args:
        queries: One query for each head and position.
        keys: One key for each head and context element; their map may differ from the queries'.
        values: One value for each head and context element.
        impl: As in `content_output`.

    Raises:
        ArgumentError: Shapes that do not fit, an unknown implementation.

    Example:
        >>> q, k, v = torch.zeros(2, 4, 3, 7, 5), torch.zeros(2, 4, 3, 9), torch.ones(2, 4, 8, 9)
        >>> y = linear_attention(q, k, v)
        >>> y.shape, round(y.mean().item(), 3)
        (torch.Size([2, 4, 8, 7, 5]), 1.0)
    """
    sizes: Sizes = {}
    check_heads("linear_attention", queries, keys, values, sizes)
    shares = normalize_queries(queries, "softmax_keys_and_queries")
    # A head is an image with one query for each position and one intra-depth.
    heads = [tensor.flatten(0, 1).unsqueeze(1) for tensor in (shares, keys, values)]
    return content_output(*heads, impl=impl).squeeze(1).unflatten(0, queries.shape[:2])
