"""`lambdanets explain`: draw what a lambda network looks at in an image."""

from pathlib import Path


def explain(
    source: str,
    image: Path,
    /,
    *,
    layer: str | None = None,
    position: tuple[int, int] | None = None,
    out: Path = Path("runs/explain"),
    size: int | None = None,
    weights: Path | None = None,
) -> None:
    """Draw what a lambda network looks at in an image.

    Args:
        source: A run folder, or a name of `lambdanets models`.
        image: An image file.
        layer: The lambda layer; the first, whose map is the finest, unless given.
        position: Row and column of a query on the layer's map, from 0; the middle unless given.
        out: The folder for the figures and explain.json.
        size: Shorter side of the image in pixels; as the network was made for unless given.
        weights: A safetensors file for a model; random weights unless given.
    """
    from lambdanets.explain.explain import explain

    explanation = explain(source, image, out, layer=layer, position=position, size=size, weights=weights)
    print(explanation.title)
    for path, caption in explanation.figures.items():
        print(f"{path}  {caption}")
    print(f"{explanation.numbers}  All that is drawn, as numbers. Layers: {', '.join(explanation.layers)}.")
