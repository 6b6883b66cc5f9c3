"""Global attention by torch's fused kernel, without a matrix of pairs."""

import math

from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional._layout import in_order_of, product_precision
from lambdanets.functional.attention.fused import attend_rows
from lambdanets.functional.attention.relative import Tables, axis_embeddings


def run(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None,
) -> Float[Tensor, "b h v *size"]:
    """Queries with their relative logits against keys with their places."""
    dtype = product_precision(queries)
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    asked, near = queries.to(dtype) * queries.shape[2] ** -0.5, keys.to(dtype)
    embeddings = None if tables is None else axis_embeddings(tables, size, context, dtype)
    output = attend_rows(asked, near, values.to(dtype), embeddings, None)
    return in_order_of(output.mT.unflatten(-1, size), queries).to(queries.dtype)


def why_not(problem: Problem) -> str | None:
    """A softmax is of one element at least."""
    return None if math.prod(problem.scope) else "needs a context of one element or more"


def cost(problem: Problem) -> float:
    """4·b·h·n·m·(k with the places, or v), the depth of all three, and everything read once."""
    device = rates(problem.device)
    n, m = problem.positions, math.prod(problem.scope)
    depth = max(problem.query_depth, problem.value_depth)
    # The fused kernel runs at about half the rate of plain products, as measured on a CPU.
    seconds = 8 * n * m * depth / device.product_flops + 4 * 2 * (n + m) * depth / device.bytes
    return problem.batch * problem.heads * seconds + 20 * device.launch_seconds


IMPLEMENTATION = Implementation("sdpa", why_not, cost, run)
