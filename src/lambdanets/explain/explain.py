"""What a lambda network looks at in one image: figures, a caption for each, and all numbers in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from lambdanets.errors import (
    ArgumentError,
    NumericError,
    check_choice,
    check_positive,
    complaint,
    did_you_mean,
)
from lambdanets.explain.maps import (
    Backbone,
    LayerView,
    half_count,
    lambda_layers,
    mean_distance,
    strengths,
    view_layer,
)
from lambdanets.explain.plots import ImageArray, Panel, PixelPanel, content_figure, field_figure, key_figure
from lambdanets.files import make_folder, make_inner_folder, replace_file
from lambdanets.functional._keys import normalization_name
from lambdanets.models import list_models
from lambdanets.nn import LambdaLayer2d
from lambdanets.runs.figure_style import dark_variant_of, darken, save_figure
from lambdanets.runs.load import RANDOM, load_named, load_run
from lambdanets.runs.loaded import LoadedModel, Origin
from lambdanets.terminal import count
from lambdanets.training.run_folder import RunFolder

NUMBERS: Final = "explain.json"

# Term of the weights -> its formula.
_FORMULAS: Final = {
    "sum": r"sum: $q_n\cdot(\bar{k}_m + R[m-n])$",
    "position": r"position: $q_n\cdot R[m-n]$",
    "content": r"content: $q_n\cdot\bar{k}_m$",
}
# Significant digits of the numbers in the file.
_DIGITS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """All that was drawn of one layer of one network in one image.

    Attributes:
        title: Model, weights, layer and image, as they stand above each figure.
        figures: PNG files, with a caption that stands by itself for each.
        numbers: The JSON file with all that was drawn.
        layers: The names of all lambda layers of the network.
        error: Relative difference between the layer's output at the position and the sum of its values by
            the weights that are drawn: rounding, if the weights are right.
        warnings: What is odd about the weights, a sentence each.
    """

    title: str
    figures: Mapping[Path, str]
    numbers: Path
    layers: tuple[str, ...]
    error: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "title": self.title,
            "figures": [{"path": path, "caption": caption} for path, caption in self.figures.items()],
            "numbers": self.numbers,
            "layers": self.layers,
            "relative_error_of_weights": self.error,
        }


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

    Position lambdas by key; the weights of the context at one query position, head by head, with the pixels
    that move the network there; the content lambda's weights by key. A layer without one of the lambdas has
    no figure of it.

    Args:
        source: A run folder, one of its checkpoints, a file of weights, or the name of a model.
        image: An image file.
        out: Folder for the files; made if need be.
        layer: A lambda layer by name; the first by default, whose map is the finest.
        position: Row and column of the query on the layer's map, from zero; the middle by default.
        size: Shorter side of the image, in pixels; that of the preprocessing by default.
        weights: A safetensors file for a model by name; without it, random weights.

    Raises:
        ArgumentError: Neither a run nor a model, a model without lambda layers, an unknown layer, a position
            off the map.
        PathError: A file does not exist.
        DataError: The image cannot be read.
        CheckpointError: The weights cannot be read, or belong to another model.
        NumericError: The network's feature maps are not finite.
        StorageError: The folder cannot be written.
    """
    if size is not None:
        check_positive("explain", size=size)
    loaded = _load(source, weights)
    origin, model = loaded.origin, loaded.model
    if size is not None and loaded.preprocessing is not None:
        loaded = replace(loaded, preprocessing=loaded.preprocessing.resized(size))
    with complaint("explain"):
        pixels, _ = loaded.read(image)
    layers = lambda_layers(model)
    if not layers or not isinstance(model, Backbone):
        raise ArgumentError(
            f"explain: model must have lambda layers, got {origin.model!r}, which has none. "
            "`lambdanets models 'lambda*'` lists some that have."
        )
    name = next(iter(layers)) if layer is None else layer
    check_choice("explain", "layer", name, layers)
    with complaint("explain"):
        try:
            view = view_layer(model, name, pixels[None], position)
        except NumericError as error:
            raise NumericError(f"{error}, from {origin.model} with {_weights(origin)}.") from error
    header = {
        "model": origin.model,
        "weights": _weights(origin),
        "image": str(image),
        "image_size": list(pixels.shape[1:]),
        "prediction": _prediction(loaded, pixels),
        "layers": list(layers),
    }
    title = _title(view, header)
    make_folder(out, "explain")
    figures = {}
    assert loaded.preprocessing is not None, "it has read the image"
    shown = loaded.preprocessing.shown(pixels).numpy()
    drawn = _draw(view, title, shown, is_random=origin.source == RANDOM)
    for file, (figure, caption) in drawn.items():
        _save(figure, out / file)
        figures[out / file] = caption
    captions = {path.name: caption for path, caption in figures.items()}
    replace_file(out / NUMBERS, _numbers(view, header, captions).encode(), "explain")
    return Explanation(
        title=title,
        figures=figures,
        numbers=out / NUMBERS,
        layers=tuple(layers),
        error=view.error,
        warnings=origin.warnings,
    )


def _prediction(loaded: LoadedModel, pixels: Float[Tensor, "c height width"]) -> str | None:
    if loaded.labels is None:
        return None
    ((label, probability),) = loaded.classify(pixels, 1)
    return f"predicted as {label} ({probability:.1%})"


def _save(figure: Figure, path: Path) -> None:
    save_figure(figure, path, "explain")
    if RunFolder(path.parent).config.is_file():
        # The page of a run has its figures dark too.
        dark = dark_variant_of(path)
        make_inner_folder(dark.parent, "explain")
        save_figure(darken(figure), dark, "explain")


def _load(source: str, weights: Path | None) -> LoadedModel:
    path = Path(source)
    if source in list_models() and not RunFolder(path).config.is_file():
        with complaint("explain"):
            return load_named(source, weights)
    if not path.exists():
        raise ArgumentError(
            f"explain: source must be a run folder or the name of a model, got {source!r}."
            f"{did_you_mean(source, list_models())} `lambdanets models` lists the models."
        )
    if weights is not None:
        raise ArgumentError(
            f"explain: weights must be left out for a run, which has its own, got {weights}. "
            "They go with the name of a model."
        )
    return load_run(path)


def _weights(origin: Origin) -> str:
    if origin.metric:
        accuracy = f"{origin.metric['test_accuracy']:.1%} of its test images"
        return f"trained ({origin.recipe}, epoch {origin.epoch}, {accuracy})"
    return origin.source if origin.source == RANDOM else f"weights of {Path(origin.source).name}"


def _title(view: LayerView, header: Mapping[str, Any]) -> str:
    height, width = view.maps.size
    scope = "" if view.layer.position is None else f", scope {_scope(view.layer)}"
    side = "×".join(map(str, header["image_size"]))
    prediction = f", {header['prediction']}" if header["prediction"] else ""
    return (
        f"{header['model']}, {header['weights']}: lambda layer {view.name}, map {height}×{width}, "
        f"{count(view.layer.num_heads, 'head')}, key depth {view.layer.query_depth}{scope}\n"
        f"image {Path(header['image']).name} at {side} pixels{prediction}"
    )


def _scope(layer: LambdaLayer2d) -> str:
    assert layer.position is not None
    return "global" if layer.position.is_global else "×".join(map(str, layer.position.table.shape[2:]))


def _draw(
    view: LayerView, title: str, image: ImageArray, *, is_random: bool
) -> dict[str, tuple[Figure, str]]:
    """File name -> figure and caption; none of what the layer does not have."""
    figures = {}
    if view.maps.table is not None:
        figures["positions.png"] = _draw_positions(view.maps.table, view, title, is_random)
    figures["field.png"] = _draw_field(view, title, image, is_random)
    if view.maps.keys is not None:
        figures["content.png"] = _draw_content(view.maps.keys, view, title, image)
    return figures


def _draw_positions(
    table: Float[Tensor, "u k rows columns"], view: LayerView, title: str, is_random: bool
) -> tuple[Figure, str]:
    rows, columns = table.shape[2:]
    centre = (rows // 2, columns // 2)
    panels = [
        Panel(f"{name} · mean distance {mean_distance(plane, centre):.1f}", plane.numpy())
        for name, plane in _by_key(table)
    ]
    heading = "Position lambdas: what each key reads at each offset"
    kind = "Position" if is_random else "Learned position"
    caption = (
        f"{kind} lambdas of {view.name}: by key, the weight R[m−n] with which a query reads the value at "
        f"each of the {rows}×{columns} offsets in reach (red as it is, blue with the opposite sign); the "
        "same for every image and every position."
    )
    return key_figure(panels, f"{heading}\n{title}", "R[m−n]"), caption


def _draw_field(view: LayerView, title: str, image: ImageArray, is_random: bool) -> tuple[Figure, str]:
    rows = {
        _FORMULAS[name]: [
            Panel(f"head {head} · mean distance {mean_distance(plane, view.position):.1f}", plane.numpy())
            for head, plane in enumerate(strengths(weights))
        ]
        for name, weights in view.weights.terms.items()
    }
    height, width = view.last_size
    fields = [
        PixelPanel(
            f"pixels that move {view.name} here", view.to_layer.numpy(), view.position, view.maps.size
        ),
        PixelPanel(
            f"pixels that move the last map ({height}×{width}) here",
            view.to_last.numpy(),
            view.last_position,
            view.last_size,
        ),
    ]
    query = f"row {view.position[0]}, column {view.position[1]}"
    heading = f"Receptive field of the position in {query} (green), exact"
    caption = (
        f"What {view.name} reads at {query}. Below, by head, the weight of the value at each context "
        "position in the output there: exact, as the layer is linear in its values (weights times values "
        f"give its output within {view.error:.0e}). 'Mean distance' is that of the weight's size from the "
        "position, in steps of the map. Above, how strongly each pixel moves the length of the output "
        "vector, through the layers before it and on to the last map: one backward pass each."
    )
    if is_random:
        caption += (
            " The weights are random: a network that starts its residual branches at zero shows only its "
            "shortcuts in the last map."
        )
    return field_figure(fields, rows, image, view.position, f"{heading}\n{title}"), caption


def _draw_content(
    keys: Float[Tensor, "u k height width"], view: LayerView, title: str, image: ImageArray
) -> tuple[Figure, str]:
    softmax = normalization_name(view.layer.key_normalization).startswith("softmax")
    panels = [
        Panel(f"{name} · half on {half_count(plane)} of {plane.numel()}", plane.numpy())
        for name, plane in _by_key(keys)
    ]
    colours = "red more than the mean, blue less" if softmax else "red positive, blue negative"
    heading = "Content lambda: what each key takes of the image"
    caption = (
        f"What {view.name} takes of the image into its content lambda, the same for all query positions: by "
        f"key, the weight k̄ of each position ({colours}; the brightness is the image). 'Half on' is the "
        "fewest positions that hold half of the weight."
    )
    return content_figure(panels, image, f"{heading}\n{title}", softmax), caption


def _by_key(maps: Float[Tensor, "u k height width"]) -> list[tuple[str, Tensor]]:
    several = len(maps) > 1
    return [
        (f"u = {u}, k = {k}" if several else f"k = {k}", plane)
        for u, part in enumerate(maps)
        for k, plane in enumerate(part)
    ]


def _numbers(view: LayerView, header: Mapping[str, Any], captions: Mapping[str, str]) -> str:
    """All that is drawn as JSON, one line for each entry; arrays with the names of their axes."""
    layer, maps = view.layer, view.maps
    entries = {
        **header,
        "layer": view.name,
        "map_size": list(maps.size),
        "position": list(view.position),
        "last_map_size": list(view.last_size),
        "last_map_position": list(view.last_position),
        "query_depth": layer.query_depth,
        "num_heads": layer.num_heads,
        "intra_depth": layer.intra_depth,
        "scope": None if layer.position is None else _scope(layer),
        "key_normalization": normalization_name(layer.key_normalization),
        "relative_error_of_weights": view.error,
        "heads": {name: _describe_heads(weights, view) for name, weights in view.weights.terms.items()},
        "keys": None
        if maps.keys is None
        else [{"key": name, "half_of_weight_on": half_count(plane)} for name, plane in _by_key(maps.keys)],
        "pixels": {
            "to_layer": {"half_of_weight_on": half_count(view.to_layer)},
            "to_last_map": {"half_of_weight_on": half_count(view.to_last)},
        },
        "files": dict(captions),
        "position_table": _array("u k rows columns", maps.table),
        "position_weights": _array("h u height width", view.weights.position),
        "content_weights": _array("h u height width", view.weights.content),
        "normalized_keys": _array("u k height width", maps.keys),
        "pixels_to_layer": _array("height width", view.to_layer),
        "pixels_to_last_map": _array("height width", view.to_last),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in entries.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _describe_heads(weights: Float[Tensor, "h u height width"], view: LayerView) -> list[dict[str, Any]]:
    return [
        {
            "head": head,
            "norm": _rounded(float(plane.norm())),
            "mean_distance": _rounded(mean_distance(plane, view.position)),
            "half_of_weight_on": half_count(plane),
        }
        for head, plane in enumerate(strengths(weights))
    ]


def _array(axes: str, values: Tensor | None) -> dict[str, Any] | None:
    return None if values is None else {"axes": axes.split(), "values": _rounded(values.tolist())}


def _rounded(values: Any) -> Any:
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.{_DIGITS}g}")
