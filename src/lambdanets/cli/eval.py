"""`lambdanets eval`: evaluate a finished or running run."""

import argparse
import json
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run folder")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def main(arguments: argparse.Namespace) -> None:
    """Evaluate and print."""
    from lambdanets.jobs.evaluate import RunEvaluation, evaluate_run

    result: RunEvaluation = evaluate_run(arguments.run)
    if arguments.format == "json":
        print(json.dumps(result.to_dict(), indent=2))
        return
    evaluation, description = result.evaluation, result.description
    print(f"{arguments.run}: {description['recipe']}, {description['model']['name']}")
    print(f"weights   best.safetensors, {description['weights']}")
    print(f"chosen    as the best on these pictures, after epoch {description['metric']['epoch']}")
    print(f"accuracy  {evaluation.accuracy:.2%}, {evaluation.correct} of {evaluation.total}")
    print(f"loss      {evaluation.loss:.4f}\n")
    print(f"{'class':<7}{'pictures':>9}{'correct':>9}{'share':>9}  taken for")
    for row in result.per_class():
        taken = ", ".join(f"{other} ({count})" for other, count in row["taken_for"].items())
        share = row["correct"] / row["total"] if row["total"] else float("nan")
        print(f"{row['label']:<7}{row['total']:>9}{row['correct']:>9}{share:>9.1%}  {taken}".rstrip())
