"""The lambda layer in plain PyTorch, written as well as we can: what a library has to beat.

One projection for queries, keys and values; matrix products for the content; for the positions one of two
forms. Every choice here was the faster of those tried: for applying the lambdas, a product and a sum for
each head before an einsum or batched products; for pairs, weights first before lambdas first.
"""

from collections.abc import Callable

import torch
from problems import NUM_HEADS, QUERY_DEPTH, Shape
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

Position = Callable[[Tensor, Tensor, Tensor], Tensor]


class PlainLambdaLayer(nn.Module):
    """The layer of a shape; `position` takes queries, values and the table, and gives "b h v n"."""

    def __init__(self, shape: Shape, position: Position) -> None:
        super().__init__()
        self.depths = (NUM_HEADS * QUERY_DEPTH, QUERY_DEPTH, shape.value_depth)
        self.project = nn.Conv2d(shape.channels, sum(self.depths), 1, bias=False)
        self.norm_queries = nn.BatchNorm2d(self.depths[0])
        self.norm_values = nn.BatchNorm2d(self.depths[2])
        self.table = nn.Parameter(torch.empty(QUERY_DEPTH, shape.table_side, shape.table_side))
        self.position = position

    def forward(self, images: Tensor) -> Tensor:
        """Content and positions, head by head."""
        queries, keys, values = self.project(images).split(self.depths, dim=1)
        queries = self.norm_queries(queries).unflatten(1, (NUM_HEADS, QUERY_DEPTH)).flatten(3)  # b h k n
        values = self.norm_values(values)
        content = values.flatten(2) @ keys.flatten(2).softmax(-1).transpose(1, 2)  # b v k
        output = content.unsqueeze(1) @ queries + self.position(queries, values, self.table)
        return output.view(len(images), -1, *images.shape[2:])


def by_convolution(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Lambdas by a 2-d convolution, the value depth folded into the batch, then applied head by head.

    The kernel is cropped to the offsets that occur on the map.
    """
    kernel = _resized(table, values, crop_only=True).unsqueeze(1)
    folded = values.flatten(0, 1).unsqueeze(1)
    lambdas = conv2d(folded, kernel, padding=kernel.shape[-1] // 2)
    lambdas = lambdas.flatten(2).unflatten(0, values.shape[:2])  # b v k n
    return torch.stack([(one.unsqueeze(1) * lambdas).sum(2) for one in queries.unbind(1)], dim=1)


def by_pairs(queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """Embeddings of all n·n pairs, a weight for each pair and head, and the values summed with them."""
    height, width = values.shape[2:]
    reachable = _resized(table, values, crop_only=False)
    # Windows of the table: the one that starts at offset 0 is that of the last position.
    windows = reachable.unfold(1, height, 1).unfold(2, width, 1).flip(1, 2)
    embeddings = windows.reshape(len(table), height * width, -1)  # k n m
    weights = torch.einsum("bhkn,knm->bhnm", queries, embeddings)
    return torch.einsum("bhnm,bvm->bhvn", weights, values.flatten(2))


def _resized(table: Tensor, values: Tensor, *, crop_only: bool) -> Tensor:
    """The table with the offsets of a square map: cropped, or filled with zeros where it has none."""
    missing = values.shape[-1] - 1 - table.shape[-1] // 2
    return pad(table, (min(missing, 0) if crop_only else missing,) * 4)
