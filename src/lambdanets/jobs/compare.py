"""Runs side by side, from what their folders hold; without torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambdanets.errors import CheckpointError, PathError
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in numbers.

    Attributes:
        path: Its folder.
        recipe: Its recipe.
        model: Its network.
        epochs: Epochs done so far, and of how many.
        correct: Test pictures classified correctly after the last epoch.
        total: Test pictures.
        best_correct: The same after the best epoch, chosen on the same pictures.
        parameters: Numbers that training changes.
        seconds: Training time.
        images_per_s: Training speed over the whole run.
    """

    path: Path
    recipe: str
    model: str
    epochs: tuple[int, int]
    correct: int
    total: int
    best_correct: int
    parameters: int
    seconds: float
    images_per_s: float


def summarize(run: Path) -> RunSummary:
    """Read the summary of a run from its folder.

    Raises:
        PathError: There is no run, or no epoch of it is done.
        CheckpointError: One of its files cannot be understood.
    """
    folder = RunFolder.existing(run)
    config = folder.read_config()
    records = folder.read_metrics()
    description = folder.best.with_suffix(".json")
    if not records or not description.is_file():
        raise PathError(f"compare: {run} must have finished an epoch, got none.")
    last = records[-1]
    try:
        return RunSummary(
            path=run,
            recipe=config.recipe,
            model=config.model.name,
            epochs=(last["epoch"], config.sched.epochs),
            correct=last["test_correct"],
            total=last["test_total"],
            best_correct=max(record["test_correct"] for record in records),
            parameters=json.loads(description.read_text())["parameters"],
            seconds=last["seconds"],
            images_per_s=last["epoch"] * last["train_total"] / last["seconds"],
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"compare: {run} must hold whole metrics.jsonl and best.json, got '{error}'."
        ) from error


def compare(runs: Sequence[Path]) -> list[RunSummary]:
    """Read the summaries of several runs, in the order given."""
    return [summarize(run) for run in runs]
