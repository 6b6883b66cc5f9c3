"""`global_attention`, `axial_attention`, `linear_attention`: with all elements, or those of a line."""

from typing import Final

from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes, bind_tensor
from lambdanets.functional._dispatch import Implementation, Problem, choose_again
from lambdanets.functional._layout import outside_autocast
from lambdanets.functional.attention import products, reference
from lambdanets.functional.attention.logits import Tables, check_tables
from lambdanets.functional.content import content_output
from lambdanets.functional.lambdas import normalize_queries

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (
    reference.ATTEND,
    products.PRODUCTS,
    products.SDPA,
)


def global_attention(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None = None,
    *,
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Weigh all elements of the context for each query.

    yₙ = Σₘ softmaxₘ(qₙ·(kₘ + Σ_axes R_axis[m - n]) / √k) vₘ for each head. Time b·h·n·m·(k + v);
    `"sdpa"` keeps none of the b·h·n·m logits.

    Paper: §2, §C.4; Table 4 (global self-attention); Table 3 for relative self-attention.

    Args:
        queries: One query for each head and position.
        keys: One key for each head and context element; their map may differ from the queries'.
        values: One value for each head and context element.
        tables: For each axis one embedding for each offset along it, shared by the heads; the middle one is
            of offset zero, and offsets that a table does not have count as zero. None for no positions.
        impl: `"auto"`, `"products"`, `"sdpa"` or `"reference"`. `"sdpa"` has no second derivatives.

    Raises:
        ArgumentError: Shapes that do not fit, an unknown implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q = torch.ones(2, 4, 8, 7, 5)
        >>> y = global_attention(q, q, q, [torch.ones(8, 13), torch.ones(8, 9)])
        >>> y.shape, round(y.mean().item(), 3)
        (torch.Size([2, 4, 8, 7, 5]), 1.0)
    """
    sizes: Sizes = {}
    check_heads("global_attention", queries, keys, values, sizes)
    check_tables("global_attention", tables, queries.ndim - 3, sizes)
    if tables is not None and keys.ndim != queries.ndim:
        raise ArgumentError(
            f"global_attention: keys must have {queries.ndim - 3} axes of positions when tables are given, "
            f"got {keys.ndim - 3}."
        )
    problem = describe("global_attention", queries, keys, values, relative=tables is not None)
    chosen = choose_again(IMPLEMENTATIONS, problem, impl)
    with outside_autocast(queries):
        return chosen.run(queries, keys, values, tables)


def axial_attention(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    table: Float[Tensor, "k r"] | None = None,
    *,
    axis: int,
    impl: str = "auto",
) -> Float[Tensor, "b h v *size"]:
    """Weigh the elements of the line through each query along one axis.

    As `global_attention` of each line by itself: time b·h·n·length·(k + v), so b·h·n·√n·(k + v) on a
    square map. Rows and then columns reach everything. Queries, keys and values are of one map.

    Paper: §2; Table 4 (axial self-attention).

    Args:
        table: One embedding for each offset along the axis; None for no positions.
        axis: Axis of positions: 0 is the first, -1 the last.
        impl: As in `global_attention`.

    Raises:
        ArgumentError: Shapes that do not fit, an axis that is not there, an unknown implementation.
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q = torch.ones(2, 4, 8, 7, 5)
        >>> axial_attention(q, q, q, torch.ones(8, 9), axis=-1).shape
        torch.Size([2, 4, 8, 7, 5])
    """
    who = "axial_attention"
    sizes: Sizes = {}
    check_heads(who, queries, keys, values, sizes, "*size")
    axes = queries.ndim - 3
    tables = None if table is None else [table]
    check_tables(who, tables, 1, sizes, "table")
    if not -axes <= axis < axes:
        raise ArgumentError(f"{who}: axis must be from {-axes} to {axes - 1}, got {axis}.")
    place = 3 + axis % axes
    moved = [one.movedim(place, -1).movedim((1, 2), (-3, -2)) for one in (queries, keys, values)]
    q, k, v = (one.flatten(0, -4) for one in moved)  # lines h k n
    chosen = choose_again(IMPLEMENTATIONS, describe(who, q, k, v, relative=table is not None), impl)
    with outside_autocast(queries):
        output = chosen.run(q, k, v, tables)
    by_line = output.unflatten(0, moved[0].shape[:-3])  # b *others h v n
    return by_line.movedim((-3, -2), (1, 2)).movedim(-1, place)


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
        ArgumentTypeError: Tensors that are not of one floating-point type.

    Example:
        >>> q, k, v = torch.zeros(2, 4, 3, 7, 5), torch.zeros(2, 4, 3, 9), torch.ones(2, 4, 8, 9)
        >>> y = linear_attention(q, k, v)
        >>> y.shape, round(y.mean().item(), 3)
        (torch.Size([2, 4, 8, 7, 5]), 1.0)
    """
    sizes: Sizes = {}
    check_heads("linear_attention", queries, keys, values, sizes)
    normalized = normalize_queries(queries, "softmax_keys_and_queries")
    # A head is an image with one query for each position and one intra-depth.
    heads = [tensor.flatten(0, 1).unsqueeze(1) for tensor in (normalized, keys, values)]
    return content_output(*heads, impl=impl).squeeze(1).unflatten(0, queries.shape[:2])


def check_heads(
    who: str, queries: Tensor, keys: Tensor, values: Tensor, sizes: Sizes, context: str = "*context"
) -> None:
    """Raise unless queries, keys and values fit together, head by head."""
    bind_tensor(who, "queries", queries, "b h k *size", sizes)
    bind_tensor(who, "keys", keys, f"b h k {context}", sizes)
    bind_tensor(who, "values", values, f"b h v {context}", sizes)


def describe(
    operation: str,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    window: tuple[int, ...] | None = None,
    relative: bool = False,
) -> Problem:
    """The call as plain data; its context, or its window, instead of the scope.

    The logits of relative positions, one for each place along each axis, count as query depth.
    """
    b, h, k, *size = queries.shape
    context, v = tuple(keys.shape[3:]), values.shape[2]
    k += sum(context) * relative
    scope = context if window is None else window
    return Problem(operation, b, h, k, 1, v, tuple(size), scope, values.dtype, values.device.type)
