"""What one lambda layer does in one image, as maps: weights of the context, and what the image moves."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError
from lambdanets.functional.lambdas import normalize_keys, normalize_queries
from lambdanets.functional.relative_position import crop_table
from lambdanets.nn.lambda_layer import LambdaLayer2d

Position = tuple[int, int]


@runtime_checkable
class Backbone(Protocol):
    """A network that gives its maps by name, from the image on."""

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The output of each stage."""
        ...


class Observation(NamedTuple):
    """One image on its way through a network, with the graph that leads back to the image.

    Attributes:
        images: What the network took.
        inputs: Of the layer.
        outputs: Of the layer, before its pool: one vector for each position of the map it works on.
        features: The network's last map.
    """

    images: Float[Tensor, "1 c image_height image_width"]
    inputs: Float[Tensor, "1 d height width"]
    outputs: Float[Tensor, "1 out height width"]
    features: Float[Tensor, "1 channels rows columns"]


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """All that a layer's outputs are made of, as float64.

    Attributes:
        queries: h for each position, normalised where the layer does so.
        keys: Normalised over the map; None without a content lambda.
        values: What is summed.
        table: R at the offsets that occur on the map; None without position lambdas.
        bias: Of the position module, if it has one: added to the output, whatever the values.
    """

    queries: Float[Tensor, "h k height width"]
    keys: Float[Tensor, "u k height width"] | None
    values: Float[Tensor, "u v height width"]
    table: Float[Tensor, "u k rows columns"] | None
    bias: Float[Tensor, " k"] | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the map."""
        height, width = self.values.shape[2:]
        return height, width


@dataclass(frozen=True, kw_only=True)
class ContextWeights:
    """What each context position counts for in the output of one query position, by head.

    For given queries and keys the layer is linear: yₙₕ = Σₘ Σᵤ w[h, u, m] vₘᵤ with
    w[h, u, m] = qₙₕ · (k̄ₘᵤ + Rᵤ[m - n]). So ∂yₙₕ/∂vₘᵤ is w times the identity, and this is all of it.

    Paper: §3.1.

    Attributes:
        content: qₙₕ · k̄ₘᵤ; None without a content lambda.
        position: qₙₕ · Rᵤ[m - n]; None without position lambdas.
    """

    content: Float[Tensor, "h u height width"] | None
    position: Float[Tensor, "h u height width"] | None

    @property
    def total(self) -> Float[Tensor, "h u height width"]:
        """Their sum."""
        return torch.stack([part for part in (self.content, self.position) if part is not None]).sum(0)


def lambda_layers(model: nn.Module) -> dict[str, LambdaLayer2d]:
    """All lambda layers of a network by name, from the image on."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LambdaLayer2d)}


def observe(model: Backbone, layer: LambdaLayer2d, images: Float[Tensor, "1 c height width"]) -> Observation:
    """Send an image through a network, and keep what passes one of its layers.

    Args:
        model: Used as it is: in evaluation mode when it was put there.
        layer: A part of it.
        images: One image.
    """
    images = images.detach().requires_grad_()
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: seen.update(inputs=inputs[0])),
        # What goes into the pool is what the lambdas gave, one vector for each query position.
        layer.pool.register_forward_pre_hook(lambda _, inputs: seen.update(outputs=inputs[0])),
    ]
    try:
        with torch.enable_grad():
            *_, features = model.features(images).values()
    finally:
        for hook in hooks:
            hook.remove()
    return Observation(images, seen["inputs"], seen["outputs"], features)


@torch.no_grad()
def layer_maps(layer: LambdaLayer2d, inputs: Float[Tensor, "1 d height width"]) -> LayerMaps:
    """Queries, normalised keys, values and relative table of a layer at one map.

    Paper: §3.1.
    """
    queries, keys, values = layer._project(inputs)
    queries = normalize_queries(queries.double(), layer.key_normalization)
    size = (values.shape[3], values.shape[4])
    if keys is not None:
        keys = normalize_keys(keys.double().flatten(3), layer.key_normalization).unflatten(-1, size)
    table, bias = None, None
    if layer.position is not None:
        table = crop_table(layer.position.table_for(size), (2 * size[0] - 1, 2 * size[1] - 1)).double()
        bias = None if layer.position.bias is None else layer.position.bias.double()
    return LayerMaps(
        queries=queries[0],
        keys=None if keys is None else keys[0],
        values=values[0].double(),
        table=table,
        bias=bias,
    )


def embeddings_at(
    table: Float[Tensor, "u k rows columns"], position: Position, size: tuple[int, int]
) -> Float[Tensor, "u k height width"]:
    """The embeddings of one query position: R[m - n] for every m of the map, zero out of scope.

    Paper: §3.1.
    """
    rows, columns = table.shape[2:]
    above, before = position[0] - rows // 2, position[1] - columns // 2
    # What is negative is cut away, what is positive is filled with zeros.
    padding = (before, size[1] - columns - before, above, size[0] - rows - above)
    return torch.nn.functional.pad(table, padding)


def context_weights(maps: LayerMaps, position: Position) -> ContextWeights:
    """What each context position counts for at one query position; exact, see `ContextWeights`.

    Paper: §3.1.

    Args:
        maps: Of the layer in one image.
        position: Row and column of the query, from zero.

    Raises:
        ArgumentError: The position is outside the map.
    """
    height, width = maps.size
    y, x = position
    if not (0 <= y < height and 0 <= x < width):
        raise ArgumentError(
            f"context_weights: position must lie on the map of {height}×{width}, rows 0 to {height - 1} and "
            f"columns 0 to {width - 1}, got {y} and {x}."
        )
    query = maps.queries[:, :, y, x]

    def weights(embeddings: Float[Tensor, "u k height width"]) -> Float[Tensor, "h u height width"]:
        return torch.einsum("hk,ukyx->huyx", query, embeddings)

    return ContextWeights(
        content=None if maps.keys is None else weights(maps.keys),
        position=None
        if maps.table is None
        else weights(embeddings_at(maps.table, position, (height, width))),
    )


def strengths(weights: Float[Tensor, "h u height width"]) -> Float[Tensor, "h height width"]:
    """One number for each head and context position: the weight with its sign, or ‖w‖ over several u.

    The norm of the linear map from the values of one position, all u of them, to the head's output.
    """
    return weights[:, 0] if weights.shape[1] == 1 else weights.norm(dim=1)


def weighted_output(maps: LayerMaps, position: Position) -> Float[Tensor, " out"]:
    """The layer's output at one position, put together from weights and values.

    Equal to what the layer itself gives but for rounding: the proof of the weights.
    """
    output = torch.einsum("huyx,uvyx->hv", context_weights(maps, position).total, maps.values)
    if maps.bias is not None:
        y, x = position
        output = output + (maps.queries[:, :, y, x] @ maps.bias)[:, None]
    return output.flatten()


def pixel_gradient(
    maps: Float[Tensor, "1 d rows columns"],
    images: Float[Tensor, "1 c height width"],
    position: Position,
) -> Float[Tensor, "height width"]:
    """How strongly each pixel moves the vector at one position of a map, by one backward pass.

    The gradient of the vector's length, ∂‖y‖/∂x = Jᵀy/‖y‖; of the channels of a pixel, its length again.
    Everything between counts, queries and keys too. Zero where the vector is zero.

    Args:
        maps: Computed from the images, with its graph.
        images: One image, with gradients wanted.
        position: Row and column on the map, from zero.
    """
    y, x = position
    (gradient,) = torch.autograd.grad(maps[0, :, y, x].norm(), images, retain_graph=True)
    return gradient[0].norm(dim=0)


def same_place(position: Position, size: tuple[int, int], other: tuple[int, int]) -> Position:
    """The position of another map over the same part of the image.

    Example:
        >>> same_place((3, 7), (8, 8), (2, 2))
        (0, 1)
    """
    y, x = ((2 * at + 1) * to // (2 * length) for at, length, to in zip(position, size, other, strict=True))
    return y, x


def half_count(weights: Float[Tensor, "height width"]) -> int:
    """How many positions, the heaviest first, hold a half of all weight; signs do not count.

    Example:
        >>> half_count(torch.tensor([[8.0, -4.0], [2.0, 1.0]])), half_count(torch.ones(2, 2))
        (1, 2)
    """
    heaviest = weights.abs().flatten().sort(descending=True).values.cumsum(0)
    return int((heaviest < heaviest[-1] / 2).sum()) + 1 if heaviest[-1] > 0 else 0


def mean_distance(weights: Float[Tensor, "height width"], position: Position) -> float:
    """Mean distance of the weight from one place, in the map's own steps; signs do not count.

    Example:
        >>> mean_distance(torch.tensor([[1.0, 0.0, 0.0, -1.0]]), (0, 0))
        1.5
    """
    weights = weights.abs()
    rows, columns = (torch.arange(length).to(weights) for length in weights.shape)
    distance = torch.hypot(rows[:, None] - position[0], columns - position[1])
    total = float(weights.sum())
    return float((weights * distance).sum()) / total if total > 0 else 0.0
