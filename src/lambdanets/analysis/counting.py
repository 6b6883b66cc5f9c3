"""Parameters, FLOPs by the paper's rule, and bytes, counted from the modules themselves."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lambdanets.analysis.memory import live_bytes_peak, saved_bytes
from lambdanets.nn.attention import AttentionProduct, GlobalProduct, LinearProduct, LineProduct
from lambdanets.nn.lambda_layer import LambdaLayer1d, LambdaLayer2d, LambdaLayer3d
from lambdanets.nn.local_attention import RelationProduct, WindowProduct, WindowSum
from lambdanets.nn.position import DensePosition, RelativePosition
from lambdanets.nn.token_layer import LambdaLayer

_PROJECTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
LambdaLayers = LambdaLayer1d | LambdaLayer2d | LambdaLayer3d | LambdaLayer

# Two batches whose difference leaves out what does not grow with the batch.
_BATCHES = (8, 16)


@dataclass(frozen=True, kw_only=True)
class LayerCount:
    """One layer of a model on one image, by its path and its class.

    Parameters that layers share are the first one's; FLOPs are twice the multiply-adds.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class ModelCount:
    """What a model is and costs.

    Attributes:
        inference_bytes_per_image: Most activation bytes alive at a time, for each image of a batch.
        training_bytes_per_image: Activation bytes kept for backward, for each image of a batch.
        layers: Every layer with parameters or FLOPs, in the order of computation.
        stages: Each of the model's children that has layers, with their sums.
    """

    parameters: int
    flops: int
    inference_bytes_per_image: int
    training_bytes_per_image: int
    layers: tuple[LayerCount, ...]
    stages: tuple[LayerCount, ...]


def count(model: nn.Module, image_shape: tuple[int, ...]) -> ModelCount:
    """Count a model on images of one shape, without computing anything (on the meta device).

    FLOPs are twice the multiply-adds of convolutions, linear and lambda layers, as the paper counts
    them: a lambda layer at the size before its pool; its position lambdas cost n·|scope|·u·k·v with
    the scope clipped to the map, borders not subtracted; its lambda is applied once. Norms,
    activations, pools and softmaxes are not counted, nor what a module of your own multiplies without
    layers, unless it has a method `count_flops` (`layer_flops`). Bytes are of float32 activations.

    Args:
        model: Any module that maps images "b c height width" (or sequences, volumes) to one tensor.
        image_shape: Channels and size of one image.

    Example:
        >>> count(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10)).flops
        43200
    """
    model = copy.deepcopy(model).to("meta", torch.float32)
    few, many = (torch.empty(batch, *image_shape, device="meta") for batch in _BATCHES)
    images = many.shape[0] - few.shape[0]
    model.eval()
    with _record_layers(model) as (layers, shapes):
        peak = live_bytes_peak(model, few)
    inference = live_bytes_peak(model, many) - peak
    model.train()
    training = saved_bytes(model, many) - saved_bytes(model, few)
    stages = [
        LayerCount(
            name=name,
            kind="stage",
            output_shape=shape,
            parameters=sum(layer.parameters for layer in own),
            flops=sum(layer.flops for layer in own),
        )
        for name, shape in shapes.items()
        if (own := [layer for layer in layers if layer.name.split(".")[0] == name])
    ]
    return ModelCount(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=sum(layer.flops for layer in layers),
        inference_bytes_per_image=inference // images,
        training_bytes_per_image=training // images,
        layers=tuple(layers),
        stages=tuple(stages),
    )


def count_layers(model: nn.Module, image_shape: tuple[int, ...]) -> tuple[LayerCount, ...]:
    """The rows of `count` alone: parameters and FLOPs of each layer, in one pass."""
    model = copy.deepcopy(model).to("meta").eval()
    with _record_layers(model) as (layers, _), torch.no_grad():
        model(torch.empty(1, *image_shape, device="meta"))
    return tuple(layers)


@contextmanager
def _record_layers(model: nn.Module) -> Iterator[tuple[list[LayerCount], dict[str, tuple[int, ...]]]]:
    """Record the layers that run inside the context, and the output shape of each child of the model."""
    rows: list[LayerCount] = []
    shapes: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    # Lambda layers, and what counts itself, are counted whole, other modules where they have no children.
    whole = {
        layer for layer in model.modules() if isinstance(layer, LambdaLayers) or hasattr(layer, "count_flops")
    }
    within = {part for layer in whole for part in layer.modules()} - whole
    counted = whole | {one for one in model.modules() if one not in within and not list(one.children())}

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any, *, name: str) -> None:
        if not isinstance(output, Tensor):
            return
        shape = tuple(output.shape[1:])
        # A module ends after its parts, so that the last shape is the child's own.
        shapes[name.split(".")[0]] = shape
        if module not in counted:
            return
        own = [one for one in module.parameters() if id(one) not in seen]
        seen.update(map(id, own))
        parameters = sum(one.numel() for one in own)
        given = [tuple(one.shape[1:]) for one in inputs if isinstance(one, Tensor)]
        flops = layer_flops(module, given, shape)
        if parameters or flops:
            kind = type(module).__name__
            rows.append(
                LayerCount(name=name, kind=kind, output_shape=shape, parameters=parameters, flops=flops)
            )

    # Within lambda layers none: these call their children where hooks are, and keep more than without.
    hooks = [
        module.register_forward_hook(partial(record, name=name))
        for name, module in model.named_modules()
        if module not in within
    ]
    try:
        yield rows, shapes
    finally:
        for hook in hooks:
            hook.remove()


def layer_flops(
    module: nn.Module, input_shapes: Sequence[tuple[int, ...]], output_shape: tuple[int, ...]
) -> int:
    """Twice the multiply-adds of one layer for one image; zero for what is not counted.

    Args:
        module: A convolution, a linear or lambda layer, the product of an attention layer, or a module that
            counts itself by a method `count_flops` of these same shapes.
        input_shapes: Shapes of what it is called with, without the batch.
        output_shape: Shape of its output, without the batch.
    """
    count_own = getattr(module, "count_flops", None)
    if count_own is not None:
        return int(count_own(input_shapes, output_shape))
    first, *others = input_shapes
    match module:
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return 2 * math.prod(output_shape) * module.weight[0].numel()
        case nn.Linear():
            return 2 * math.prod(output_shape) * module.in_features
        case LambdaLayer():
            return _lambda_flops(module, first[:1], *(shape[0] for shape in others[:1]))
        case LambdaLayer1d() | LambdaLayer2d() | LambdaLayer3d():
            return _lambda_flops(module, first[1:])
        case AttentionProduct():
            return _attention_flops(module, first, output_shape)
        case _:
            return 0


def _attention_flops(
    product: AttentionProduct, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
) -> int:
    """Queries with the elements they reach, and the values by that; neither the softmax nor positions."""
    h, k, *size = input_shape
    v, n = output_shape[1], math.prod(size)
    match product:
        case LinearProduct():
            return 2 * h * 2 * n * k * v
        case LineProduct():
            return 2 * h * n * size[product.axis] * (k + v)
        case GlobalProduct():
            return 2 * h * n * n * (k + v)
        case WindowProduct() | RelationProduct() | WindowSum():
            window = math.prod(min(product.window_size, length) for length in size)
            # The weights of a `WindowSum` come from a network, which is counted by itself.
            return 2 * h * n * window * (v if isinstance(product, WindowSum) else k + v)
    raise AssertionError(f"{type(product).__name__} is not counted")


def _lambda_flops(layer: LambdaLayers, size: tuple[int, ...], m: int | None = None) -> int:
    """FLOPs of one map or sequence: projections, content lambda, position lambdas, their application."""
    n = math.prod(size)
    m = n if m is None else m
    k, u, h, v = layer.query_depth, layer.intra_depth, layer.num_heads, layer.value_depth
    macs = n * _num_weights(layer.to_queries) + m * _num_weights(layer.to_values)
    if layer.to_keys is not None:
        macs += m * (_num_weights(layer.to_keys) + u * k * v)
    if isinstance(layer.position, DensePosition):
        macs += n * m * u * k * v
    elif isinstance(layer.position, RelativePosition):
        scope = layer.position.table_for(size).shape[2:]
        context = size if len(size) > 1 else (m,)
        macs += n * math.prod(map(min, scope, context)) * u * k * v
    return 2 * (macs + n * h * k * v)


def _num_weights(projection: nn.Module) -> int:
    """Multiply-adds of a projection at one position; an adapter of it has layers of its own."""
    return sum(one.weight.numel() for one in projection.modules() if isinstance(one, _PROJECTIONS))
