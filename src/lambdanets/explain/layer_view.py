"""One lambda layer in one image, at one position: as figures with captions, and as numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from lambdanets.explain.lambda_maps import (
    ContextWeights,
    LayerMaps,
    half_count,
    mean_distance,
    strengths,
)
from lambdanets.explain.lambda_plots import Panel, PixelPanel, content_figure, field_figure, key_figure
from lambdanets.explain.subject import Subject
from lambdanets.nn import LambdaLayer2d

# Row of weights -> what they are.
_FORMULAS: Final = {
    "sum": r"sum: $q_n\cdot(\bar{k}_m + R[m-n])$",
    "position": r"position: $q_n\cdot R[m-n]$",
    "content": r"content: $q_n\cdot\bar{k}_m$",
}
# Of a number in the file.
_DIGITS: Final = 5


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """All that is known of a layer in an image.

    Attributes:
        subject: The network and the image.
        layer: The layer's name.
        module: The layer.
        maps: Its queries, keys, values and table in this image.
        weights: Of the context, at the position.
        position: Row and column of the query on the layer's map, from zero.
        last_size: Of the network's last map.
        last_position: The same place on it.
        to_layer: How strongly each pixel moves the layer's output at the position.
        to_last: How strongly each pixel moves the last map at the same place.
        error: Of the weights, relative, against the layer's own output.
    """

    subject: Subject
    layer: str
    module: LambdaLayer2d
    maps: LayerMaps
    weights: ContextWeights
    position: tuple[int, int]
    last_size: tuple[int, int]
    last_position: tuple[int, int]
    to_layer: Float[Tensor, "height width"]
    to_last: Float[Tensor, "height width"]
    error: float

    @property
    def rows(self) -> dict[str, Float[Tensor, "h u height width"]]:
        """The weights by what makes them; their sum first, where there are two."""
        parts = {"position": self.weights.position, "content": self.weights.content}
        there = {name: part for name, part in parts.items() if part is not None}
        return there if len(there) == 1 else {"sum": self.weights.total, **there}

    @property
    def place(self) -> str:
        """The query's position in words."""
        return f"row {self.position[0]}, column {self.position[1]}"

    def title(self, image: Path) -> str:
        """Model, weights, layer and image, in two lines."""
        height, width = self.maps.size
        scope = "" if self.module.position is None else f", scope {_scope(self.module)}"
        side = "×".join(map(str, self.subject.inputs.shape[2:]))
        told = f", {self.subject.prediction}" if self.subject.prediction else ""
        return (
            f"{self.subject.name}, {self.subject.weights}: lambda layer {self.layer}, map {height}×{width}, "
            f"{self.module.num_heads} heads, {self.module.query_depth} keys{scope}\n"
            f"image {image.name} at {side} pixels{told}"
        )


def draw(view: LayerView, title: str) -> dict[str, tuple[Figure, str]]:
    """File name -> figure and caption; without an image of what the layer does not have."""
    figures = {}
    if view.maps.table is not None:
        figures["positions.png"] = _positions(view.maps.table, view, title)
    figures["field.png"] = _field(view, title)
    if view.maps.keys is not None:
        figures["content.png"] = _content(view.maps.keys, view, title)
    return figures


def _positions(table: Float[Tensor, "u k rows columns"], view: LayerView, title: str) -> tuple[Figure, str]:
    rows, columns = table.shape[2:]
    centre = (rows // 2, columns // 2)
    panels = [
        Panel(values=plane.numpy(), title=f"{name} · mean distance {mean_distance(plane, centre):.1f}")
        for name, plane in _by_key(table)
    ]
    kind = "Position" if view.subject.is_random else "Learned position"
    caption = (
        f"{kind} lambdas of {view.layer}: by key, the weight R[m−n] with which a query reads the value at "
        f"each of the {rows}×{columns} offsets in reach (red as it is, blue with the opposite sign); the "
        "same for every image and every position."
    )
    return key_figure(
        panels, f"Position lambdas: what each key reads at each offset\n{title}", "R[m−n]"
    ), caption


def _field(view: LayerView, title: str) -> tuple[Figure, str]:
    rows = {
        _FORMULAS[name]: [
            Panel(
                values=plane.numpy(),
                title=f"head {head} · mean distance {mean_distance(plane, view.position):.1f}",
            )
            for head, plane in enumerate(strengths(weights))
        ]
        for name, weights in view.rows.items()
    }
    height, width = view.last_size
    fields = [
        PixelPanel(
            values=view.to_layer.numpy(),
            title=f"pixels that move {view.layer} here",
            position=view.position,
            size=view.maps.size,
        ),
        PixelPanel(
            values=view.to_last.numpy(),
            title=f"pixels that move the last map ({height}×{width}) here",
            position=view.last_position,
            size=view.last_size,
        ),
    ]
    figure = field_figure(
        fields,
        rows,
        view.subject.shown,
        view.position,
        f"Receptive field of the position in {view.place} (green), exact\n{title}",
    )
    caption = (
        f"What {view.layer} reads at {view.place}. Below, by head, the weight of the value at each context "
        "position in the output there: exact, as the layer is linear in its values (weights times values "
        f"give its output within {view.error:.0e}). 'Mean distance' is that of the weight's size from the "
        "position, in steps of the map. Above, how strongly each pixel moves the length of the output "
        "vector, through the layers before it and on to the last map: one backward pass each."
    )
    return figure, f"{caption}{_warning(view)}"


def _warning(view: LayerView) -> str:
    if not view.subject.is_random:
        return ""
    return (
        " The weights are random: a network that starts its residual branches at zero shows only its "
        "shortcuts in the last map."
    )


def _content(keys: Float[Tensor, "u k height width"], view: LayerView, title: str) -> tuple[Figure, str]:
    softmax = view.module.key_normalization.startswith("softmax")
    count = keys[0, 0].numel()
    panels = [
        Panel(values=plane.numpy(), title=f"{name} · half on {half_count(plane)} of {count}")
        for name, plane in _by_key(keys)
    ]
    colours = "red more than the mean, blue less" if softmax else "red positive, blue negative"
    caption = (
        f"What of the image {view.layer} takes into its content lambda, the same for all query positions: by "
        f"key, the weight k̄ of each position ({colours}; the brightness is the image). 'Half on' is the "
        "fewest positions that hold half of the weight."
    )
    heading = "Content lambda: what each key takes of the image"
    return content_figure(panels, view.subject.shown, f"{heading}\n{title}", softmax), caption


def _by_key(maps: Float[Tensor, "u k height width"]) -> list[tuple[str, Tensor]]:
    several = len(maps) > 1
    return [
        (f"u = {u}, k = {k}" if several else f"k = {k}", plane)
        for u, part in enumerate(maps)
        for k, plane in enumerate(part)
    ]


def _scope(module: LambdaLayer2d) -> str:
    assert module.position is not None
    return "global" if module.position.is_global else "×".join(map(str, module.position.table.shape[2:]))


def write_numbers(view: LayerView, image: Path, layers: tuple[str, ...], captions: Mapping[str, str]) -> str:
    """All that is drawn as JSON, one line for each entry; arrays with the names of their axes."""
    subject, module, maps = view.subject, view.module, view.maps
    entries: dict[str, Any] = {
        "model": subject.name,
        "weights": subject.weights,
        "image": str(image),
        "image_size": list(subject.inputs.shape[2:]),
        "prediction": subject.prediction or None,
        "layers": list(layers),
        "layer": view.layer,
        "map_size": list(maps.size),
        "position": list(view.position),
        "last_map_size": list(view.last_size),
        "last_map_position": list(view.last_position),
        "query_depth": module.query_depth,
        "num_heads": module.num_heads,
        "intra_depth": module.intra_depth,
        "scope": None if module.position is None else _scope(module),
        "key_normalization": module.key_normalization,
        "relative_error_of_weights": view.error,
        "heads": {name: _describe_heads(weights, view) for name, weights in view.rows.items()},
        "keys": _describe_keys(maps),
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


def _describe_keys(maps: LayerMaps) -> list[dict[str, Any]] | None:
    if maps.keys is None:
        return None
    return [{"key": name, "half_of_weight_on": half_count(plane)} for name, plane in _by_key(maps.keys)]


def _array(axes: str, values: Tensor | None) -> dict[str, Any] | None:
    return None if values is None else {"axes": axes.split(), "values": _rounded(values.tolist())}


def _rounded(values: Any) -> Any:
    return (
        [_rounded(value) for value in values] if isinstance(values, list) else float(f"{values:.{_DIGITS}g}")
    )
