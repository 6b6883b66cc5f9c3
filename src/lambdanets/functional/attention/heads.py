"""Queries, keys and values of several heads: checks, a call as plain data, and how alike two things are."""

from torch import Tensor

from lambdanets.errors import Sizes, bind_shape
from lambdanets.functional._dispatch import Problem


def check_heads(
    who: str, queries: Tensor, keys: Tensor, values: Tensor, sizes: Sizes, context: str = "*context"
) -> None:
    """Raise unless queries, keys and values fit together, head by head."""
    bind_shape(who, "queries", queries, "b h k *size", sizes)
    bind_shape(who, "keys", keys, f"b h k {context}", sizes)
    bind_shape(who, "values", values, f"b h v {context}", sizes)


def describe(
    operation: str,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    window: tuple[int, ...] | None = None,
    relative: bool = False,
) -> Problem:
    """The call as plain data; its context, or its window, in the place of the scope.

    With relative positions the depth of a query is that with its logits of all places along each axis.
    """
    b, h, k, *size = queries.shape
    return Problem(
        operation=operation,
        batch=b,
        heads=h,
        query_depth=k + sum(keys.shape[3:]) * relative,
        intra_depth=1,
        value_depth=values.shape[2],
        size=tuple(size),
        scope=tuple(keys.shape[3:]) if window is None else window,
        dtype=values.dtype,
        device=values.device.type,
        backward=False,
        workspace=0,
    )


def compare(queries: Tensor, keys: Tensor, appearance: str) -> Tensor:
    """Φ(q, k) of "b h k …" and "b h k …", which may broadcast: q·k, -|q - k|² or -Σ|q - k|."""
    if appearance == "product":
        return (queries * keys).sum(2)
    differences = queries - keys
    return -(differences.square() if appearance == "squared_difference" else differences.abs()).sum(2)
