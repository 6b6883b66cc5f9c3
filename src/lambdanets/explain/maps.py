"""The mathematics: what one lambda layer does in one image, as weights over its map and over the pixels."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, NumericError
from lambdanets.functional.lambdas import normalize_keys, normalize_queries
from lambdanets.functional.relative_position import crop_table
from lambdanets.nn.lambda_layer import LambdaLayer2d
from lambdanets.nn.position import RelativePosition

Position = tuple[int, int]


@runtime_checkable
class Backbone(Protocol):
    """A network that returns the feature maps of its stages by name, in the order of computation."""

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the output of each stage."""
        ...


# Rounding is far below, whatever is attached to positions far above.
_LARGEST_ERROR: Final = 1e-2


class _Observation(NamedTuple):
    """One image on its way through a network, with the graph that leads back to the image.

    Attributes:
        images: The input of the network.
        inputs: The input of the layer.
        outputs: The output of the layer before its pool: one vector for each position of its map.
        features: The network's last feature map.
    """

    images: Float[Tensor, "1 c image_height image_width"]
    inputs: Float[Tensor, "1 d height width"]
    outputs: Float[Tensor, "1 out height width"]
    features: Float[Tensor, "1 channels rows columns"]


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """All that a layer's outputs are computed from, in float64.

    Attributes:
        queries: h for each position, normalised where the layer does so.
        keys: Normalised over the map; None without a content lambda.
        values: The values of each position.
        table: R at the offsets that occur on the map; None without position lambdas.
        bias: The bias of the position module, if it has one: added to the output, whatever the values.
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
    """The weight of each context position in the output of one query position, by head.

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
    def terms(self) -> dict[str, Float[Tensor, "h u height width"]]:
        """The weights by the lambda they come from; their sum first, where there are two."""
        terms = {"position": self.position, "content": self.content}
        present = {name: term for name, term in terms.items() if term is not None}
        return present if len(present) == 1 else {"sum": torch.stack([*present.values()]).sum(0), **present}


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """One lambda layer in one image, seen from one query position.

    Attributes:
        name: The layer's name in the network.
        layer: The layer.
        maps: Its queries, keys, values and table in this image.
        position: Row and column of the query on the layer's map, from zero.
        weights: The weights of the context in the output at the position.
        last_size: Height and width of the network's last feature map.
        last_position: The position over the same part of the image there.
        to_layer: How strongly each pixel moves the layer's output at the position.
        to_last: How strongly each pixel moves the last feature map over the same part of the image.
        error: Relative difference between the layer's output at the position and its values summed by the
            weights: rounding, if the weights are right.
    """

    name: str
    layer: LambdaLayer2d
    maps: LayerMaps
    position: Position
    weights: ContextWeights
    last_size: tuple[int, int]
    last_position: Position
    to_layer: Float[Tensor, "height width"]
    to_last: Float[Tensor, "height width"]
    error: float


def view_layer(
    model: Backbone, name: str, images: Float[Tensor, "1 c height width"], position: Position | None = None
) -> LayerView:
    """Compute all that is drawn of one lambda layer in one image.

    Args:
        model: A network in evaluation mode.
        name: The name of one of its `lambda_layers`.
        images: One image, as the network takes it.
        position: Row and column of the query on the layer's map; the middle by default.

    Raises:
        ArgumentError: The position is outside the map.
        ArgumentError: Something acts on the layer's positions that no weights can say.
        NumericError: The network's feature maps are not finite.
    """
    assert isinstance(model, nn.Module), "has named modules"
    layer = lambda_layers(model)[name]
    observation = _observe(model, layer, images)
    if not all(torch.isfinite(maps).all() for maps in (observation.outputs, observation.features)):
        raise NumericError("the network's feature maps must be finite, got some that are not")
    maps = _layer_maps(layer, observation.inputs)
    height, width = maps.size
    position = (height // 2, width // 2) if position is None else position
    weights = _context_weights(maps, position)
    last_size = (observation.features.shape[2], observation.features.shape[3])
    last_position = _same_place(position, maps.size, last_size)
    output = observation.outputs[0, :, *position].detach().double()
    difference = _weighted_output(maps, position).detach() - output
    error = float(difference.norm() / output.norm().clamp(min=1e-30))
    if error > _LARGEST_ERROR:
        raise ArgumentError(
            f"{name} must compute its output from its queries, keys, values and table alone, got one that "
            f"differs by {error:.0%}. Something is attached to its position."
        )
    return LayerView(
        name=name,
        layer=layer,
        maps=maps,
        position=position,
        weights=weights,
        last_size=last_size,
        last_position=last_position,
        to_layer=_pixel_gradient(observation.outputs, observation.images, position),
        to_last=_pixel_gradient(observation.features, observation.images, last_position),
        error=error,
    )


def lambda_layers(model: nn.Module) -> dict[str, LambdaLayer2d]:
    """All lambda layers of a network by name, in the order of computation."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LambdaLayer2d)}


def _observe(
    model: Backbone, layer: LambdaLayer2d, images: Float[Tensor, "1 c height width"]
) -> _Observation:
    """Send an image through a network, and keep what enters and leaves one of its layers."""
    images = images.detach().requires_grad_()
    kept: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: kept.update(inputs=inputs[0])),
        # The pool takes the output of the lambdas, one vector for each query position.
        layer.pool.register_forward_pre_hook(lambda _, inputs: kept.update(outputs=inputs[0])),
    ]
    try:
        with torch.enable_grad():
            *_, features = model.features(images).values()
    finally:
        for hook in hooks:
            hook.remove()
    return _Observation(images, kept["inputs"], kept["outputs"], features)


@torch.no_grad()
def _layer_maps(layer: LambdaLayer2d, inputs: Float[Tensor, "1 d height width"]) -> LayerMaps:
    """Queries, normalised keys, values and relative table of a layer for one input.

    Paper: §3.1.
    """
    queries, keys, values = layer._project(inputs)
    queries = normalize_queries(queries.double(), layer.key_normalization)
    size = (values.shape[3], values.shape[4])
    if keys is not None:
        keys = normalize_keys(keys.double().flatten(3), layer.key_normalization).unflatten(-1, size)
    table, bias = None, None
    if layer.position is not None:
        if not isinstance(layer.position, RelativePosition):
            raise ArgumentError(
                f"position must be a RelativePosition, whose table is drawn, got a "
                f"{type(layer.position).__name__}."
            )
        table = crop_table(layer.position.table_for(size), (2 * size[0] - 1, 2 * size[1] - 1)).double()
        bias = None if layer.position.bias is None else layer.position.bias.double()
    return LayerMaps(
        queries=queries[0],
        keys=None if keys is None else keys[0],
        values=values[0].double(),
        table=table,
        bias=bias,
    )


def _embeddings_at(
    table: Float[Tensor, "u k rows columns"], position: Position, size: tuple[int, int]
) -> Float[Tensor, "u k height width"]:
    """The embeddings of one query position: R[m - n] for every m of the map, zero out of scope.

    Paper: §3.1.
    """
    rows, columns = table.shape[2:]
    above, before = position[0] - rows // 2, position[1] - columns // 2
    # Negative padding cuts away, positive padding fills with zeros.
    padding = (before, size[1] - columns - before, above, size[0] - rows - above)
    return torch.nn.functional.pad(table, padding)


def _context_weights(maps: LayerMaps, position: Position) -> ContextWeights:
    """The weight of each context position at one query position; exact, see `ContextWeights`.

    Paper: §3.1.

    Raises:
        ArgumentError: The position is outside the map.
    """
    height, width = maps.size
    y, x = position
    if not (0 <= y < height and 0 <= x < width):
        raise ArgumentError(
            f"position must lie on the map of {height}×{width}, rows 0 to {height - 1} and columns 0 to "
            f"{width - 1}, got {y} and {x}."
        )
    query = maps.queries[:, :, y, x]

    def weights(embeddings: Float[Tensor, "u k height width"]) -> Float[Tensor, "h u height width"]:
        return torch.einsum("hk,ukyx->huyx", query, embeddings)

    table = maps.table
    return ContextWeights(
        content=None if maps.keys is None else weights(maps.keys),
        position=None if table is None else weights(_embeddings_at(table, position, (height, width))),
    )


def strengths(weights: Float[Tensor, "h u height width"]) -> Float[Tensor, "h height width"]:
    """One number for each head and context position: the weight with its sign, or ‖w‖ over several u.

    The norm of the linear map from the values of one position, all u of them, to the head's output.
    """
    return weights[:, 0] if weights.shape[1] == 1 else weights.norm(dim=1)


def _weighted_output(maps: LayerMaps, position: Position) -> Float[Tensor, " out"]:
    """The layer's output at one position, computed from weights and values.

    Equal to the layer's own output but for rounding: the proof of the weights.
    """
    total = next(iter(_context_weights(maps, position).terms.values()))
    output = torch.einsum("huyx,uvyx->hv", total, maps.values)
    if maps.bias is not None:
        y, x = position
        output = output + (maps.queries[:, :, y, x] @ maps.bias)[:, None]
    return output.flatten()


def _pixel_gradient(
    maps: Float[Tensor, "1 d rows columns"],
    images: Float[Tensor, "1 c height width"],
    position: Position,
) -> Float[Tensor, "height width"]:
    """How strongly each pixel moves the vector at one position of a map, by one backward pass.

    The gradient of the vector's length, ∂‖y‖/∂x = Jᵀy/‖y‖, and its length over the channels of each pixel.
    Everything in between counts, queries and keys too. Zero where the vector is zero.

    Args:
        maps: Computed from the images, with its graph.
        images: One image that requires gradients.
        position: Row and column on the map, from zero.
    """
    y, x = position
    (gradient,) = torch.autograd.grad(maps[0, :, y, x].norm(), images, retain_graph=True)
    return gradient[0].norm(dim=0)


def _same_place(position: Position, size: tuple[int, int], other: tuple[int, int]) -> Position:
    """The position of another map over the same part of the image.

    Example:
        >>> _same_place((3, 7), (8, 8), (2, 2))
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
    """Mean distance of the weight from a position, in steps of the map; signs do not count.

    Example:
        >>> mean_distance(torch.tensor([[1.0, 0.0, 0.0, -1.0]]), (0, 0))
        1.5
    """
    weights = weights.abs()
    rows, columns = (
        torch.arange(length, dtype=weights.dtype, device=weights.device) for length in weights.shape
    )
    distance = torch.hypot(rows[:, None] - position[0], columns - position[1])
    total = float(weights.sum())
    return float((weights * distance).sum()) / total if total > 0 else 0.0
