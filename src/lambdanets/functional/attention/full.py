"""`global_attention` and `axial_attention`: every query with all elements, or with those of its row."""

from typing import Final

from jaxtyping import Float
from torch import Tensor

from lambdanets.errors import ArgumentError, Sizes
from lambdanets.functional._dispatch import Implementation, choose_again
from lambdanets.functional._layout import outside_autocast
from lambdanets.functional.attention import products, reference, sdpa
from lambdanets.functional.attention.heads import check_heads, describe
from lambdanets.functional.attention.relative import Tables, check_tables

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = (
    reference.ATTEND,
    products.IMPLEMENTATION,
    sdpa.IMPLEMENTATION,
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
    square map. Rows and then columns reach everything.

    Paper: §2; Table 4 (axial self-attention).

    Args:
        queries: One query for each head and position.
        keys: One key for each head and position.
        values: One value for each head and position.
        table: One embedding for each offset along the axis; None for no positions.
        axis: Of positions: 0 is the first of them, -1 the last.
        impl: As in `global_attention`.

    Raises:
        ArgumentError: Shapes that do not fit, an axis that is not there, an unknown implementation.

    Example:
        >>> q = torch.ones(2, 4, 8, 7, 5)
        >>> axial_attention(q, q, q, torch.ones(8, 9), axis=-1).shape
        torch.Size([2, 4, 8, 7, 5])
    """
    who, axes = "axial_attention", queries.ndim - 3
    sizes: Sizes = {}
    check_heads(who, queries, keys, values, sizes, "*size")
    tables = None if table is None else [table]
    check_tables(who, tables, 1, sizes)
    if not -axes <= axis < axes:
        raise ArgumentError(f"{who}: axis must be from {-axes} to {axes - 1}, got {axis}.")
    q, k, v = (_lines(tensor, axis % axes) for tensor in (queries, keys, values))
    chosen = choose_again(IMPLEMENTATIONS, describe(who, q, k, v, relative=table is not None), impl)
    with outside_autocast(queries):
        output = chosen.run(q, k, v, tables)
    return _map(output, queries, axis % axes)


def _lines(tensor: Float[Tensor, "b h k *size"], axis: int) -> Float[Tensor, "lines h k n"]:
    """Every line along an axis as a sequence of its own."""
    return tensor.movedim(3 + axis, -1).movedim((1, 2), (-3, -2)).flatten(0, -4)


def _map(
    lines: Float[Tensor, "lines h v n"], like: Float[Tensor, "b h k *size"], axis: int
) -> Float[Tensor, "b h v *size"]:
    """Undo `_lines`."""
    others = [length for place, length in enumerate(like.shape[3:]) if place != axis]
    return lines.unflatten(0, (len(like), *others)).movedim((-3, -2), (1, 2)).movedim(-1, 3 + axis)
