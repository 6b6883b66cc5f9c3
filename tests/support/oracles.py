"""The equations as literal loops: one number at a time in float64, nothing shared with the library."""

import math
from itertools import product

import torch
from torch import Tensor

from support.compare import relative_error

# Both sides sum the same few float64 products, in another order.
SPECIFICATION_TOLERANCE = 1e-12


def assert_specified(actual: Tensor, expected: Tensor) -> None:
    """Fail unless a float64 result is what the loops say."""
    assert actual.dtype == torch.float64
    assert relative_error(actual, expected) <= SPECIFICATION_TOLERANCE


def loop_key_weights(keys: list[float], seen: list[bool], key_normalization: str) -> list[float]:
    """One channel of the keys of a context, normalised over its visible elements; zero elsewhere."""
    is_softmax = key_normalization.startswith("softmax")
    largest = max((key for key, is_seen in zip(keys, seen, strict=True) if is_seen), default=0.0)
    weights = [
        (math.exp(key - largest) if is_softmax else key) if is_seen else 0.0
        for key, is_seen in zip(keys, seen, strict=True)
    ]
    if key_normalization == "none" or not any(seen):
        return weights
    total = sum(weights) if is_softmax else math.sqrt(sum(weight * weight for weight in weights))
    return [weight / total for weight in weights]


def loop_embeddings(table: Tensor, size: tuple[int, ...], context: tuple[int, ...] | None = None) -> Tensor:
    """e_nm = R[m - n], zero where the offset is outside the scope: [n, m, u, k]."""
    u, k, *scope = table.shape
    here = list(product(*map(range, size)))
    there = list(product(*map(range, size if context is None else context)))
    embeddings = torch.zeros(len(here), len(there), u, k, dtype=torch.float64)
    for (n, at), (m, to) in product(enumerate(here), enumerate(there)):
        place = [target - source + side // 2 for source, target, side in zip(at, to, scope, strict=True)]
        if all(0 <= index < side for index, side in zip(place, scope, strict=True)):
            embeddings[n, m] = table[(slice(None), slice(None), *place)]
    return embeddings


def loop_lambda_layer(
    queries: Tensor,
    keys: Tensor | None,
    values: Tensor,
    embeddings: Tensor | None,
    mask: Tensor | None = None,
    key_normalization: str = "softmax",
) -> Tensor:
    """yₙ = Σₘ Σᵤ Σₖ (k̄ + e) v q over the m that n sees, K̄ normalised over these alone."""
    (b, h, k, n), (u, v, m) = queries.shape, values.shape[1:]
    mask = torch.ones(b, n, m, dtype=torch.bool) if mask is None else mask.expand(b, n, m)
    embeddings = torch.zeros(n, m, u, k) if embeddings is None else embeddings
    key = None if keys is None else keys.tolist()
    q, value, e, sees = (x.tolist() for x in (queries, values, embeddings, mask))
    output = torch.zeros(b, h, v, n, dtype=torch.float64)
    for i, at in product(range(b), range(n)):
        seen = sees[i][at]
        weights = [[[0.0] * m] * k] * u
        if key is not None:
            weights = [
                [loop_key_weights(channel, seen, key_normalization) for channel in part] for part in key[i]
            ]
        for head, depth in product(range(h), range(v)):
            query = [q[i][head][c][at] for c in range(k)]
            if key_normalization == "softmax_keys_and_queries":
                query = loop_key_weights(query, [True] * k, "softmax")
            output[i, head, depth, at] = sum(
                (weights[a][c][to] + e[at][to][a][c]) * value[i][a][depth][to] * query[c]
                for to, a, c in product(range(m), range(u), range(k))
                if seen[to]
            )
    return output
