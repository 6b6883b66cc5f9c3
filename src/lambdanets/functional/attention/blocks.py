"""Local attention by torch's fused kernel: blocks of queries, each with the elements its windows reach."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from lambdanets.functional._dispatch import Implementation, Problem, rates
from lambdanets.functional._layout import in_order_of, product_precision
from lambdanets.functional.attention.logits import Tables, axis_embeddings, fused_attention, scaled
from lambdanets.functional.relative_position import Size

# Queries along one side of a block, by the number of axes. A block of s² queries reads (s + r - 1)² elements.
_LONGEST_SIDE = {1: 32, 2: 8, 3: 4}


def run(
    queries: Float[Tensor, "b h k *size"],
    keys: Float[Tensor, "b h k *size"],
    values: Float[Tensor, "b h v *size"],
    tables: Tables | None,
    window: Size,
) -> Float[Tensor, "b h v *size"]:
    """Blocks join the batch; pairs out of the window or off the map are masked."""
    dtype, size = product_precision(queries), tuple(queries.shape[3:])
    window = tuple(min(side, 2 * length - 1) for side, length in zip(window, size, strict=True))
    block = _sides(size)
    reach = tuple(side + around - 1 for side, around in zip(block, window, strict=True))
    q = _blocks(scaled(queries, dtype), block, block)
    k, v = (_blocks(tensor.to(dtype), block, reach) for tensor in (keys, values))
    embeddings = None
    if tables is not None:
        # A block begins half a window after what it reaches.
        within = [slice(around // 2, around // 2 + side) for around, side in zip(window, block, strict=True)]
        whole = axis_embeddings(tables, reach, reach, dtype)
        embeddings = [places[part] for places, part in zip(whole, within, strict=True)]
    mask = _mask(size, block, reach, window, queries.device)  # blocks n m
    mask = mask.expand(queries.shape[0], -1, -1, -1).flatten(0, 1).unsqueeze(1)  # b·blocks 1 n m
    output = fused_attention(q, k, v, embeddings, mask).mT.unflatten(-1, block)
    return in_order_of(_join(output, queries.shape[0], size), queries).to(queries.dtype)


def _sides(size: Size) -> Size:
    """Sides of blocks, as equal as can be."""
    longest = _LONGEST_SIDE[len(size)]
    return tuple(-(-length // -(-length // longest)) for length in size)


def _blocks(
    maps: Float[Tensor, "b h d *size"], block: Size, reach: Size
) -> Float[Tensor, "blocks h d *rest"]:
    """Every block of a map with what is in reach around it; zero off the map."""
    size, axes = maps.shape[3:], len(block)
    margins = []
    for length, side, width in zip(size, block, reach, strict=True):
        missing = -length % side
        margins.append(((width - side) // 2, (width - side) // 2 + missing))
    maps = pad(maps, [margin for pair in reversed(margins) for margin in pair])
    for axis, (side, width) in enumerate(zip(block, reach, strict=True)):
        maps = maps.unfold(3 + axis, width, side)
    # b h d *counts *reach
    return maps.movedim((1, 2), (1 + axes, 2 + axes)).flatten(0, axes)


def _join(blocks: Float[Tensor, "blocks h v *rest"], b: int, size: Size) -> Float[Tensor, "b h v *size"]:
    """The adjoint of `_blocks` for blocks that do not overlap: back into a map."""
    axes, block = len(size), blocks.shape[3:]
    counts = [-(-length // side) for length, side in zip(size, block, strict=True)]
    parts = blocks.unflatten(0, (b, *counts))  # b *counts h v *block
    order = [0, 1 + axes, 2 + axes, *(place for axis in range(axes) for place in (1 + axis, 3 + axes + axis))]
    maps = parts.permute(order)  # b h v (count side) …
    for axis in range(axes):
        maps = maps.flatten(3 + axis, 4 + axis)
    return maps[(..., *(slice(length) for length in size))]


def _mask(
    size: Size, block: Size, reach: Size, window: Size, device: torch.device
) -> Bool[Tensor, "blocks n m"]:
    """True where a query sees an element; the queries that fill up the last block see everything."""
    masks: Tensor = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    for length, side, width, around in zip(size, block, reach, window, strict=True):
        first = torch.arange(0, length, side, device=device)[:, None, None]
        at = first + torch.arange(side, device=device)[:, None]  # counts side 1
        to = first + torch.arange(width, device=device) - around // 2  # counts 1 width
        in_reach = ((to - at).abs() <= around // 2) & (to >= 0) & (to < length)
        # Blocks, queries and elements of this axis run faster than those of the axes before.
        masks = (
            (masks[:, None, :, None, :, None] & in_reach[None, :, None, :, None, :])
            .flatten(4)
            .flatten(2, 3)
            .flatten(0, 1)
        )
    return masks | ~masks.any(-1, keepdim=True)


def _cost(problem: Problem) -> float:
    """2·b·h·n·|reach|·(k + v), with the reach of every block copied."""
    device, depth = rates(problem.device), problem.query_depth + problem.value_depth
    block = _sides(problem.size)
    counts = [-(-length // side) for length, side in zip(problem.size, block, strict=True)]
    reaches = [side + around - 1 for side, around in zip(block, problem.reachable_scope, strict=True)]
    blocks, queries, reach = math.prod(counts), math.prod(block), math.prod(reaches)
    flops = 2 * blocks * queries * reach * depth
    moved = problem.item_bytes * blocks * reach * depth
    seconds = flops / device.product_flops + moved / device.bytes
    return problem.batch * problem.heads * seconds + 20 * device.launch_seconds


IMPLEMENTATION = Implementation(
    "blocks",
    lambda problem: None if problem.positions else "needs a map of one element or more",
    _cost,
    run,
)
