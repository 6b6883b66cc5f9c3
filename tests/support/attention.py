"""Attention as literal loops: one pair at a time in float64, nothing shared with the library."""

import math
from itertools import product

import torch
from torch import Tensor


def draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Normal tensors of these shapes: always the same ones."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def places(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(product(*map(range, size)))


def offset(at: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(target - source for source, target in zip(at, to, strict=True))


def is_near(at: tuple[int, ...], to: tuple[int, ...], window: tuple[int, ...] | None) -> bool:
    return window is None or all(
        abs(step) <= side // 2 for step, side in zip(offset(at, to), window, strict=True)
    )


def loop_softmax(logits: list[float]) -> list[float]:
    largest = max(logits)
    shares = [math.exp(logit - largest) for logit in logits]
    return [share / sum(shares) for share in shares]


def loop_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: list[Tensor] | None = None,
    window: tuple[int, ...] | None = None,
) -> Tensor:
    """yₙ = Σₘ softmaxₘ(qₙ·(kₘ + Σ_axes R_axis[m - n]) / √k) vₘ over the m near n."""
    queries, keys, values = (tensor.detach() for tensor in (queries, keys, values))
    k = queries.shape[2]

    def logit(b: int, h: int, at: tuple[int, ...], to: tuple[int, ...]) -> float:
        embedding = keys[(b, h, slice(None), *to)].clone()
        for table, step in zip(tables or [], offset(at, to), strict=False):
            index = step + table.shape[1] // 2
            if 0 <= index < table.shape[1]:
                embedding += table[:, index].detach()
        return float(queries[(b, h, slice(None), *at)] @ embedding) / math.sqrt(k)

    return loop_windows(logit, queries, keys, values, window)


def loop_relation(
    queries: Tensor, keys: Tensor, values: Tensor, prior: Tensor, appearance: str = "squared_difference"
) -> Tensor:
    """yₙ = Σₘ softmaxₘ(Φ(qₙ, kₘ) + g[m - n]) vₘ over the window of g."""
    queries, keys, values, prior = (tensor.detach() for tensor in (queries, keys, values, prior))
    window = tuple(prior.shape[1:])

    def logit(b: int, h: int, at: tuple[int, ...], to: tuple[int, ...]) -> float:
        q, k = queries[(b, h, slice(None), *at)].tolist(), keys[(b, h, slice(None), *to)].tolist()
        pairs = list(zip(q, k, strict=True))
        index = [step + side // 2 for step, side in zip(offset(at, to), window, strict=True)]
        alike = {
            "product": sum(x * y for x, y in pairs),
            "difference": -sum(abs(x - y) for x, y in pairs),
            "squared_difference": -sum((x - y) ** 2 for x, y in pairs),
        }
        return alike[appearance] + float(prior[(h, *index)])

    return loop_windows(logit, queries, keys, values, window)


def loop_vectors(weights: Tensor, values: Tensor, window: tuple[int, ...], normalize: bool) -> Tensor:
    """yₙ = Σₘ w[m - n, n] vₘ over the window, or with a softmax of w over what is on the map."""

    def weight(b: int, h: int, at: tuple[int, ...], to: tuple[int, ...]) -> float:
        index = 0
        for step, side in zip(offset(at, to), window, strict=True):
            index = index * side + step + side // 2
        return float(weights[(b, h, index, *at)])

    return loop_windows(weight, values, values, values, window, normalize)


def loop_windows(
    logit, queries: Tensor, keys: Tensor, values: Tensor, window, normalize: bool = True
) -> Tensor:
    b, h, v = values.shape[:3]
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    output = torch.zeros(b, h, v, *size, dtype=torch.float64)
    for i, head, at in product(range(b), range(h), places(size)):
        near = [to for to in places(context) if is_near(at, to, window)]
        logits = [logit(i, head, at, to) for to in near]
        for share, to in zip(loop_softmax(logits) if normalize else logits, near, strict=True):
            output[(i, head, slice(None), *at)] += share * values[(i, head, slice(None), *to)]
    return output
