"""What a lambda network looks at in one image: images, numbers, and a caption for each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from lambdanets.errors import ArgumentError, NumericError, check_choice
from lambdanets.explain.lambda_maps import (
    context_weights,
    lambda_layers,
    layer_maps,
    observe,
    pixel_gradient,
    same_place,
    weighted_output,
)
from lambdanets.explain.layer_view import LayerView, draw, write_numbers
from lambdanets.explain.subject import Subject, load_subject
from lambdanets.files import replace_file, storing
from lambdanets.nn import LambdaLayer2d
from lambdanets.runs.plots import save_figure

NUMBERS: Final = "explain.json"


@dataclass(frozen=True, kw_only=True)
class DrawnFigure:
    """One image on the disk.

    Attributes:
        path: A PNG file.
        caption: What it shows, in one or two sentences that stand by themselves.
    """

    path: Path
    caption: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was drawn of one layer of one network in one image.

    Attributes:
        title: Model, weights, layer and image, as they stand above each image.
        figures: The images.
        numbers: The JSON file with all that was drawn.
        layers: The names of all lambda layers of the network.
        error: Relative difference between the layer's output at the position and the sum of its values by
            the weights that are drawn: rounding, if the weights are right.
    """

    title: str
    figures: tuple[DrawnFigure, ...]
    numbers: Path
    layers: tuple[str, ...]
    error: float


def explain(
    source: str,
    image: Path,
    out: Path,
    *,
    layer: str | None = None,
    position: tuple[int, int] | None = None,
    size: int | None = None,
    weights: Path | None = None,
) -> Explanation:
    """Draw what one lambda layer of a network does in an image, and write the numbers beside.

    Position lambdas by key; the weights of the context at one query position, head by head, with the part of
    the image that moves the network there; the content lambda's weights by key. A layer without one of the
    lambdas has no image of it.

    Args:
        source: A run folder, or the name of a model.
        image: An image file.
        out: Folder for the files; made if need be.
        layer: A lambda layer by name; the first by default, whose map is the finest.
        position: Row and column of the query on the layer's map, from zero; the middle by default.
        size: Shorter side the image gets, in pixels; as the network was made for by default.
        weights: A safetensors file for a model by name; without it, random weights.

    Raises:
        ArgumentError: Neither a run nor a model, a model without lambda layers, an unknown layer, a position
            off the map.
        PathError: A file does not exist.
        DataError: The image cannot be read.
        CheckpointError: The weights cannot be read, or belong to another model.
        NumericError: The network's outputs are not finite.
        StorageError: The folder cannot be written.
    """
    subject = load_subject("explain", source, image, size=size, weights=weights)
    layers = lambda_layers(subject.model)
    if not layers:
        raise ArgumentError(
            f"explain: model must have lambda layers, got {subject.name!r}, which has none. "
            "`lambdanets models 'lambda*'` lists some that have."
        )
    name = next(iter(layers)) if layer is None else layer
    check_choice("explain", "layer", name, layers)
    view = _look(subject, name, layers[name], position)
    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
    title = view.title(image)
    figures = []
    for file, (figure, caption) in draw(view, title).items():
        with storing(out / file):
            save_figure(figure, out / file)
        figures.append(DrawnFigure(path=out / file, caption=caption))
    captions = {one.path.name: one.caption for one in figures}
    replace_file(out / NUMBERS, write_numbers(view, image, tuple(layers), captions).encode())
    return Explanation(
        title=title, figures=tuple(figures), numbers=out / NUMBERS, layers=tuple(layers), error=view.error
    )


def _look(subject: Subject, layer: str, module: LambdaLayer2d, position: tuple[int, int] | None) -> LayerView:
    observation = observe(subject.model, module, subject.inputs)
    if not all(torch.isfinite(maps).all() for maps in (observation.outputs, observation.features)):
        raise NumericError(
            f"explain: the network's maps must be finite, got some that are not, from {subject.name} with "
            f"{subject.weights}."
        )
    maps = layer_maps(module, observation.inputs)
    height, width = maps.size
    position = (height // 2, width // 2) if position is None else position
    weights = context_weights(maps, position)
    last_size = (observation.features.shape[2], observation.features.shape[3])
    last_position = same_place(position, maps.size, last_size)
    output = observation.outputs[0, :, *position].detach().double()
    error = (weighted_output(maps, position) - output).norm() / output.norm().clamp(min=1e-30)
    return LayerView(
        subject=subject,
        layer=layer,
        module=module,
        maps=maps,
        weights=weights,
        position=position,
        last_size=last_size,
        last_position=last_position,
        to_layer=pixel_gradient(observation.outputs, observation.images, position),
        to_last=pixel_gradient(observation.features, observation.images, last_position),
        error=float(error),
    )
