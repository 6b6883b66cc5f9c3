"""`lambdanets explain`: what a lambda network looks at in an image."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("source", metavar="RUN|MODEL", help="a run folder, or a name of `lambdanets models`")
    parser.add_argument("image", metavar="IMAGE", type=Path, help="an image file")
    parser.add_argument("--layer", metavar="NAME", help="a lambda layer (the first, whose map is the finest)")
    parser.add_argument(
        "--position",
        metavar=("Y", "X"),
        type=int,
        nargs=2,
        help="row and column of a query on the layer's map, from 0 (the middle)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/explain"), help="runs/explain")
    parser.add_argument(
        "--size",
        metavar="N",
        type=int,
        help="shorter side of the image, in pixels (as the network was made for)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="safetensors for a MODEL (random weights)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Draw, and say what is where."""
    from lambdanets.explain.explain import explain

    explanation = explain(
        arguments.source,
        arguments.image,
        arguments.out,
        layer=arguments.layer,
        position=None if arguments.position is None else (arguments.position[0], arguments.position[1]),
        size=arguments.size,
        weights=arguments.weights,
    )
    print(explanation.title)
    for path, caption in explanation.figures.items():
        print(f"{path}  {caption}")
    print(f"{explanation.numbers}  All that is drawn, as numbers. Layers: {', '.join(explanation.layers)}.")
