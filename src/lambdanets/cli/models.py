"""`lambdanets models` and `info`: the models by name; parameters, FLOPs and memory of one."""

import json
from typing import Literal

from lambdanets.cli._options import Overrides, parse_size
from lambdanets.models.config import STAGES
from lambdanets.models.variants import list_models, model_config


def models(pattern: str = "*", /, *, format: Literal["text", "json"] = "text") -> None:
    """List the models by name.

    Args:
        pattern: A shell's pattern, such as 'lambda*'.
        format: text adds the blocks of each stage, and how many of them are lambda layers.
    """
    names = list_models(pattern)
    if format == "json":
        print(json.dumps(names, indent=2))
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
    format: Literal["text", "json"] = "text",
) -> None:
    """Count the parameters, FLOPs and memory of a model.

    Args:
        model: A name of `lambdanets models`.
        size: Image size, N or HxW; also the size that a global context is made for.
        overrides: Keyword arguments of `create_model` as pairs, such as query_depth 8 content False.
        per_layer: List every layer, not only the stages.
        format: text or json.
    """
    sides = parse_size(size, "info: size", most=2)
    height, width = sides * 2 if len(sides) == 1 else sides
    changed = {"image_size": sides[0] if len(sides) == 1 else sides, **overrides}
    # Before torch is imported: a wrong name or override answers at once.
    model_config(model, **changed)
    from lambdanets.analysis.info import inform

    report = inform(model, (height, width), changed)
    print(report.to_json() if format == "json" else report.to_text(per_layer))
