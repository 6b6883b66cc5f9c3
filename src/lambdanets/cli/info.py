"""`lambdanets info`: parameters, FLOPs and memory of a model."""

import argparse
from typing import Any

from lambdanets.models.variants import model_config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options: the overrides of `create_model` by their names."""
    parser.add_argument("model", help="a name of `lambdanets models`")
    parser.add_argument("--size", type=_size, default=224, metavar="N|HxW", help="image size (224)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--per-layer", action="store_true", help="list every layer, not only the stages")
    parser.add_argument("--num-classes", type=int, help="width of the classifier (1000)")
    parser.add_argument("--in-channels", type=int, help="channels of the images (3)")
    parser.add_argument("--layers", metavar="LETTERS", help="C or L for each of c2 to c5, such as CCLL")
    parser.add_argument("--query-depth", type=int, metavar="K")
    parser.add_argument("--num-heads", type=int, metavar="H")
    parser.add_argument("--intra-depth", type=int, metavar="U")
    parser.add_argument("--scope-size", type=_scope, metavar="R|global", default=argparse.SUPPRESS)
    parser.add_argument("--content", action=argparse.BooleanOptionalAction)
    parser.add_argument("--positional", action=argparse.BooleanOptionalAction)
    parser.add_argument("--share-position", choices=("none", "stage"))
    parser.add_argument("--key-normalization", metavar="KIND")
    parser.add_argument(
        "--image-size", type=_size, metavar="N|HxW", help="size a global context is made for (as --size)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Count and print."""
    overrides = _overrides(arguments)
    # Before torch is imported: a wrong name or override answers at once.
    model_config(arguments.model, **overrides)
    from lambdanets.analysis.info import inform

    height, width = (arguments.size,) * 2 if isinstance(arguments.size, int) else arguments.size
    report = inform(arguments.model, (height, width), overrides)
    print(report.to_json() if arguments.format == "json" else report.to_text(arguments.per_layer))
    return 0


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    given = vars(arguments)
    names = (
        "num_classes",
        "in_channels",
        "layers",
        "query_depth",
        "num_heads",
        "intra_depth",
        "content",
        "positional",
        "share_position",
        "key_normalization",
        "image_size",
    )
    overrides = {name: given[name] for name in names if given[name] is not None}
    if "scope_size" in given:
        overrides["scope_size"] = given["scope_size"]
    return {"image_size": given["size"], **overrides}


def _size(text: str) -> int | tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _scope(text: str) -> int | None:
    return None if text == "global" else int(text)


# What argparse calls them in its messages.
_size.__name__, _scope.__name__ = "size", "scope"
