"""`lambdanets models`, `recipes` and `info`: models and recipes by name; parameters and FLOPs of a model."""

from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any, Literal

from lambdanets.cli._options import Format, Overrides, parse_size, print_json
from lambdanets.errors import ArgumentError
from lambdanets.models.config import STAGES
from lambdanets.models.variants import list_models, model_config
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe
from lambdanets.streams import print_line
from lambdanets.terminal import count, pairs, table
from lambdanets.training.config import RunConfig


def models(pattern: str = "*", /, *, format: Format = "text") -> None:
    """List the models by name.

    Args:
        pattern: A shell's pattern, such as 'lambda*'.
        format: text or json; --json is short for the latter.
    """
    found: list[dict[str, Any]] = []
    for name in list_models(pattern):
        config = model_config(name)
        mixers = {stage: config.mixers(stage) for stage in STAGES}
        blocks = {stage: len(letters) for stage, letters in mixers.items()}
        lambdas = {stage: letters.count("L") for stage, letters in mixers.items()}
        found.append({"model": name, "blocks": blocks, "lambda_layers": lambdas})
    if format == "json":
        print_json(found)
        return
    rows = [
        (one["model"], *("-".join(map(str, one[key].values())) for key in ("blocks", "lambda_layers")))
        for one in found
    ]
    print_line(table(("model", "blocks of c2 to c5", "lambda layers among them"), rows))
    print_line(count(len(found), "model"))


def recipes(pattern: str = "*", /, *, format: Literal["text", "markdown", "json"] = "text") -> None:
    """List the recipes.

    Args:
        pattern: A shell's pattern, such as 'imagenet-*-256'.
        format: text: one line each; markdown: a table with what is expected of them; json: all of it, and
            --json is short for that.
    """
    names = [name for name in RECIPES if fnmatchcase(name, pattern)]
    if not names:
        raise ArgumentError(
            f"recipes: pattern must fit one of {count(len(RECIPES), 'recipe')}, got {pattern!r}."
            " `lambdanets recipes` lists them all."
        )
    if format == "text":
        summaries = {name: describe_recipe(name)["Summary"] for name in names}
        print_line(pairs(summaries))
        print_line(count(len(names), "recipe"))
        return
    if format == "json":
        print_json([_recipe(name) for name in names])
        return
    print_line("| recipe | network | pixels | epochs | batch | expected | paper |")
    print_line("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        config, described = get_recipe(name, RunConfig), describe_recipe(name)
        pixels = getattr(config.data, "image_size", "as stored")
        expected, paper = (described.get(field, "").rstrip(".") for field in ("Expected", "Paper"))
        print_line(
            f"| `{name}` | `{config.model.name}` | {pixels} | {config.sched.epochs}"
            f" | {config.global_batch_size} | {expected} | {paper} |"
        )


def _recipe(name: str) -> dict[str, Any]:
    config, described = get_recipe(name, RunConfig), describe_recipe(name)
    return {
        "recipe": name,
        "command": config.command,
        "summary": described["Summary"],
        "model": config.model.name,
        "image_size": getattr(config.data, "image_size", None),
        "epochs": config.sched.epochs,
        "global_batch_size": config.global_batch_size,
        **{key: described.get(key.capitalize()) for key in ("paper", "expected", "cost")},
    }


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
    from lambdanets.analysis.counting import count as count_model
    from lambdanets.models import create_model, on_meta

    with on_meta():
        network = create_model(model, **changed)
    counted = count_model(network, (network.config.in_channels, height, width))
    if format == "json":
        side = height if height == width else [height, width]
        origin = {"model": model, "image_size": side, "overrides": changed}
        print_json(origin | asdict(counted))
        return
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
    print_line(f"{model} at {height}x{width}\n{pairs(totals, indent=2)}\n\n{table(headings, rows, indent=2)}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB of float32 activations an image"
