"""`lambdanets models` and `info`: the models by name; parameters, FLOPs and memory of one."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lambdanets.cli._options import Format, Overrides, parse_size, print_json
from lambdanets.models.config import STAGES
from lambdanets.models.variants import list_models, model_config

if TYPE_CHECKING:
    from lambdanets.analysis.counting import ModelCount


def models(pattern: str = "*", /, *, format: Format = "text") -> None:
    """List the models by name.

    Args:
        pattern: A shell's pattern, such as 'lambda*'.
        format: text adds the blocks of each stage, and how many of them are lambda layers.
    """
    names = list_models(pattern)
    if format == "json":
        print_json(names)
        return
    from lambdanets.terminal import table

    rows = []
    for name in names:
        mixers = [model_config(name).mixers(stage) for stage in STAGES]
        blocks = "-".join(str(len(letters)) for letters in mixers)
        rows.append((name, blocks, "-".join(str(letters.count("L")) for letters in mixers)))
    print(table(("model", "blocks of c2 to c5", "lambda layers among them"), rows))
    print(f"{len(names)} models")


def info(
    model: str,
    /,
    *,
    size: str = "224",
    overrides: Overrides,
    per_layer: bool = False,
    format: Format = "text",
) -> None:
    """Count the parameters, FLOPs and memory of a model.

    Args:
        model: A name of `lambdanets models`.
        size: Image size, N or HxW; also the size that a global context is made for.
        overrides: Keyword arguments of `create_model` as pairs, such as query_depth 8 content False.
        per_layer: List every layer, not only the stages.
        format: text or json; --json is short for the latter.
    """
    sides = parse_size(size, "info: size", most=2)
    height, width = sides * 2 if len(sides) == 1 else sides
    changed: dict[str, Any] = {"image_size": sides[0] if len(sides) == 1 else sides, **overrides}
    # Before torch is imported: a wrong name or override answers at once.
    model_config(model, **changed)
    from lambdanets.analysis.counting import count
    from lambdanets.models import create_model, on_meta

    with on_meta():
        network = create_model(model, **changed)
    counted = count(network, (network.config.in_channels, height, width))
    if format == "json":
        side = height if height == width else [height, width]
        origin = {"model": model, "image_size": side, "overrides": changed}
        print_json(origin | asdict(counted))
        return
    print(f"{model} at {height}x{width}")
    print(_summary(counted, per_layer))


def _summary(counted: "ModelCount", per_layer: bool) -> str:
    from lambdanets.terminal import pairs, table

    totals = {
        "parameters": f"{counted.parameters:,}",
        "FLOPs": f"{counted.flops / 1e9:.2f} G (2 x multiply-adds, by the paper's rule)",
        "inference memory": _megabytes(counted.inference_bytes_per_image),
        "training memory": _megabytes(counted.training_bytes_per_image),
    }
    rows = [
        (
            layer.name,
            "x".join(map(str, layer.output_shape)),
            f"{layer.parameters:,}",
            f"{layer.flops / 1e6:,.1f}",
        )
        for layer in (counted.layers if per_layer else counted.stages)
    ]
    headings = ("layer" if per_layer else "stage", "output", "parameters", "MFLOPs")
    return "\n".join([pairs(totals, indent=2), "", table(headings, rows, indent=2)])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB of float32 activations an image"
