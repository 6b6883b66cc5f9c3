"""`lambdanets predict`: classify image files with a trained run."""

import argparse
import json
from pathlib import Path
from typing import Final

_BAR: Final = 30


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument(
        "images", metavar="IMAGE", type=Path, nargs="+", help="image files, each with one object"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def main(arguments: argparse.Namespace) -> None:
    """Predict and print."""
    from lambdanets.runs.predict import predict

    predictions = predict(arguments.run, arguments.images)
    if arguments.format == "json":
        print(json.dumps([prediction.to_dict() for prediction in predictions], indent=2))
        return
    for prediction in predictions:
        note = " (dark ink on light paper: inverted)" if prediction.inverted else ""
        print(f"{prediction.path}{note}")
        for label, probability in prediction.top:
            print(f"  {label:<3}{probability:>7.1%}  {'█' * round(probability * _BAR)}".rstrip())
