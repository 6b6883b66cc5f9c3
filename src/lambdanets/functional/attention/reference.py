"""The specifications: every pair written out, in float32 at least; plain and obvious."""

import torch
from jaxtyping import Float
from torch import Tensor

from lambdanets.functional._dispatch import Implementation, Problem, rates, runs_everything
from lambdanets.functional.attention.logits import Tables, compare, scaled
from lambdanets.functional.relative_position import Size, dense_embeddings, relative_offsets, scope_mask


def attend(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *context"],
    values: Float[Tensor, "b h v *context"],
    tables: Tables | None,
    window: Size | None = None,
) -> Float[Tensor, "b h v *size"]:
    """yₙ = Σₘ softmaxₘ(qₙ·(kₘ + eₙₘ) / √k) vₘ, over all elements or those of the window around n."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    size, context = tuple(queries.shape[3:]), tuple(keys.shape[3:])
    q = scaled(queries, dtype).flatten(3)
    logits = torch.einsum("bhkn,bhkm->bhnm", q, keys.to(dtype).flatten(3))
    if tables is not None:
        embeddings = _pair_embeddings([table.to(dtype) for table in tables], size, context)
        logits = logits + torch.einsum("bhkn,nmk->bhnm", q, embeddings)
    return _weigh_values(logits, queries, values, window)


def _pair_embeddings(tables: Tables, size: Size, context_size: Size) -> Float[Tensor, "n m k"]:
    """Write the tables out: one embedding for each pair, the sum of those of its offsets along the axes.

    Zero along an axis where the offset is not in the table.
    """
    offsets = relative_offsets(size, context_size, device=tables[0].device)
    embeddings = tables[0].new_zeros(*offsets.shape[:2], tables[0].shape[0])
    for table, offset in zip(tables, offsets.unbind(-1), strict=True):
        place = offset + table.shape[1] // 2
        known = (place >= 0) & (place < table.shape[1])
        embeddings = embeddings + table.T[place.where(known, 0)] * known[..., None]
    return embeddings


def relate(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    prior: Float[Tensor, " h *scope"],
    appearance: str,
) -> Float[Tensor, "b h v *size"]:
    """yₙ = Σₘ softmaxₘ(Φ(qₙ, kₘ) + g[m - n]) vₘ over the window of the prior."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    q, k = queries.to(dtype).flatten(3), keys.to(dtype).flatten(3)
    logits = compare(q[..., :, None], k[..., None, :], appearance)
    geometry = dense_embeddings(prior.to(dtype).unsqueeze(0), tuple(queries.shape[3:]))  # n m 1 h
    return _weigh_values(logits + geometry[:, :, 0].movedim(-1, 0), queries, values, tuple(prior.shape[1:]))


def _weigh_values(logits: Tensor, queries: Tensor, values: Tensor, window: Size | None) -> Tensor:
    size = queries.shape[3:]
    if window is not None:
        mask = scope_mask(tuple(size), window, device=logits.device)
        logits = logits.masked_fill(~mask, -torch.inf)
    output = torch.einsum("bhnm,bhvm->bhvn", logits.softmax(-1), values.to(logits.dtype).flatten(3))
    return output.unflatten(-1, size).to(queries.dtype)


def aggregate(
    weights: Float[Tensor, "b h r *size"], values: Float[Tensor, "b h v *size"], window: Size, normalize: bool
) -> Float[Tensor, "b h v *size"]:
    """yₙ = Σₘ w[m - n, n] vₘ over the window; under `normalize` a softmax over what is on the map first."""
    dtype = torch.promote_types(weights.dtype, torch.float32)
    size = tuple(values.shape[3:])
    mask = scope_mask(size, window, device=weights.device)
    place = mask.new_zeros(mask.shape, dtype=torch.long)
    offsets = relative_offsets(size, device=weights.device).unbind(-1)
    for side, offset in zip(window, offsets, strict=True):
        place = place * side + offset + side // 2
    b, h = weights.shape[:2]
    pairs = weights.to(dtype).flatten(3).mT.gather(-1, place.where(mask, 0).expand(b, h, -1, -1))  # b h n m
    pairs = pairs.masked_fill(~mask, -torch.inf).softmax(-1) if normalize else pairs.masked_fill(~mask, 0)
    output = torch.einsum("bhnm,bhvm->bhvn", pairs, values.to(dtype).flatten(3))
    return output.unflatten(-1, size).to(values.dtype)


def _cost(problem: Problem) -> float:
    """Every pair, in scope or not, with its logits read and written five times."""
    device = rates(problem.device)
    pairs = problem.batch * problem.heads * problem.positions * max(problem.positions, *problem.scope)
    seconds = 2 * pairs * (problem.query_depth + problem.value_depth) / device.product_flops
    # The reference is read more than it is run: never the choice where another can serve.
    return 10 * (seconds + 20 * pairs / device.bytes + 20 * device.launch_seconds)


ATTEND = Implementation("reference", runs_everything, _cost, attend)
RELATE = Implementation("reference", runs_everything, _cost, relate)
AGGREGATE = Implementation("reference", runs_everything, _cost, aggregate)
