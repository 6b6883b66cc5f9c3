"""`lambdanets predict` and `explain`: classify image files; draw what a network looks at in one."""

from pathlib import Path
from typing import Any, Final

from lambdanets.cli._options import Format, print_json
from lambdanets.errors import PathError, complaint

_BAR: Final = 30


def predict(run: Path, images: tuple[Path, ...], /, *, format: Format = "text") -> None:
    """Classify image files by a trained run.

    Args:
        run: A run folder.
        images: Image files, each with one object.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.runs.load import load_run

    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise PathError(f"predict: images must be files, got {', '.join(missing)}, which do not exist.")
    loaded = load_run(run)
    found: list[dict[str, Any]] = []
    with complaint("predict"):
        for path in images:
            pixels, inverted = loaded.read(path)
            top = [{"label": label, "probability": chance} for label, chance in loaded.classify(pixels)]
            found.append({"image": str(path), "inverted": inverted, "top": top})
    if format == "json":
        print_json(found)
        return
    for one in found:
        print(f"{one['image']}{' (dark ink on light paper: inverted)' if one['inverted'] else ''}")
        for guess in one["top"]:
            bar = "█" * round(guess["probability"] * _BAR)
            print(f"  {guess['label']:<3}{guess['probability']:>7.1%}  {bar}".rstrip())


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
