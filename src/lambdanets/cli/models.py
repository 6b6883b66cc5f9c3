"""`lambdanets models`: the names `create_model` knows."""

import argparse
import json

from lambdanets.models.config import STAGES
from lambdanets.models.variants import list_models, model_config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as 'lambda*'")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def main(arguments: argparse.Namespace) -> int:
    """Print the names, with the blocks of each stage and how many of them are lambda layers."""
    names = list_models(arguments.pattern)
    if arguments.format == "json":
        print(json.dumps(names, indent=2))
        return 0
    print(f"{'model':<24} {'blocks of c2 to c5':<20} lambda layers among them")
    for name in names:
        config = model_config(name)
        mixers = [config.mixers(stage) for stage in STAGES]
        blocks = "-".join(str(len(letters)) for letters in mixers)
        lambdas = "-".join(str(letters.count("L")) for letters in mixers)
        print(f"{name:<24} {blocks:<20} {lambdas}")
    print(f"{len(names)} models")
    return 0
