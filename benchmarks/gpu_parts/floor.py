"""The least time of a position output: in-bounds work over the rates measured in the same run."""

from typing import Any, NamedTuple

from problems import NUM_HEADS, QUERY_DEPTH, Shape

from gpu_parts.clock import Row
from lambdanets.functional.position import pairs_in_bounds

# Bytes of a number in float16 or bfloat16.
ITEM_BYTES = 2


class Work(NamedTuple):
    """Operations, a multiply-add for two, of the cheaper of both forms; every tensor moved once."""

    flops: float
    bytes: float

    def plus(self, other: "Work") -> "Work":
        """One after the other."""
        return Work(self.flops + other.flops, self.bytes + other.bytes)


def forward(shape: Shape, batch: int) -> Work:
    """Scores of all pairs and their sums of values, or lambdas and their products with queries."""
    h, k, v, n = NUM_HEADS, QUERY_DEPTH, shape.value_depth, shape.positions
    pairs = _pairs(shape)
    scores_first = 2 * pairs * h * (k + v)
    lambdas_first = 2 * pairs * k * v + 2 * n * h * k * v
    moved = ITEM_BYTES * (batch * n * (h * k + v + h * v) + k * shape.table_side**2)
    return Work(batch * min(scores_first, lambdas_first), moved)


def backward(shape: Shape, batch: int) -> Work:
    """Scores and lambdas are made again, as they are not kept."""
    h, k, v, n = NUM_HEADS, QUERY_DEPTH, shape.value_depth, shape.positions
    pairs = _pairs(shape)
    scores_first = 2 * pairs * h * (2 * v + 3 * k)
    lambdas_first = 6 * pairs * k * v + 4 * n * h * k * v
    moved = ITEM_BYTES * (batch * n * (2 * h * k + 2 * v + h * v) + 2 * k * shape.table_side**2)
    return Work(batch * min(scores_first, lambdas_first), moved)


WORK = {
    "forward": forward,
    "backward": backward,
    "both": lambda shape, batch: forward(shape, batch).plus(backward(shape, batch)),
}


def _pairs(shape: Shape) -> int:
    return pairs_in_bounds((shape.side,) * 2, (shape.table_side,) * 2)


def achieved(work: Work, row: Row, ceilings: dict[str, Any]) -> dict[str, float]:
    """Rates in in-bounds work, and the time over the least one, where the ceilings are known."""
    seconds = row["median_ms"] / 1e3
    found = {"tflop_per_s": work.flops / seconds / 1e12, "gb_per_s": work.bytes / seconds / 1e9}
    try:
        matrix = ceilings["matrix product, bfloat16"]["tflop_per_s"]
        copy = ceilings["copy"]["gb_per_s"]
    except (KeyError, TypeError):
        return found
    least = max(work.flops / (matrix * 1e12), work.bytes / (copy * 1e9))
    return found | {"least_ms": 1e3 * least, "over_least": seconds / least}
