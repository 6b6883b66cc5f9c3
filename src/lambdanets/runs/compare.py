"""Runs side by side, and seeds of one recipe together, from what their folders hold; without torch."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lambdanets.errors import CheckpointError, PathError
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in numbers.

    Attributes:
        path: The run folder.
        config: The settings of the run.
        epochs: Epochs done so far, and of how many.
        correct: Test images classified correctly after the last epoch.
        total: Test images.
        best_correct: The same after the best epoch, of the EMA or the raw weights, chosen on the same images.
        top5_correct: Test images whose class was among the first five guesses, where that was counted.
        parameters: Trainable numbers.
        seconds: Training time.
        images_per_s: Training speed over the whole run.
    """

    path: Path
    config: TrainConfig
    epochs: tuple[int, int]
    correct: int
    total: int
    best_correct: int
    top5_correct: int | None = None
    parameters: int
    seconds: float
    images_per_s: float

    @property
    def recipe(self) -> str:
        """The name of the recipe."""
        return self.config.recipe

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.config.model.name

    @property
    def accuracy(self) -> float:
        """The fraction that is correct after the last epoch."""
        return self.correct / self.total

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        done, planned = self.epochs
        return {
            "run": str(self.path),
            "recipe": self.recipe,
            "model": self.model,
            "seed": self.config.seed,
            "epochs": done,
            "planned_epochs": planned,
            "accuracy": self.accuracy,
            "correct": self.correct,
            "total": self.total,
            "best_correct": self.best_correct,
            "top5_correct": self.top5_correct,
            "parameters": self.parameters,
            "seconds": self.seconds,
            "images_per_s": self.images_per_s,
        }


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Runs that differ in their seed alone.

    Attributes:
        runs: At least two, by seed.
    """

    runs: tuple[RunSummary, ...]

    @property
    def accuracies(self) -> list[float]:
        """The accuracy of each run after its last epoch."""
        return [run.accuracy for run in self.runs]

    @property
    def mean(self) -> float:
        """Mean of the accuracies."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Standard deviation of the accuracies, estimated from these few."""
        return statistics.stdev(self.accuracies)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "recipe": self.runs[0].recipe,
            "model": self.runs[0].model,
            "seeds": [run.config.seed for run in self.runs],
            "epochs": self.runs[0].epochs[0],
            "accuracy_mean": self.mean,
            "accuracy_std": self.std,
            "accuracy_lowest": min(self.accuracies),
            "accuracy_highest": max(self.accuracies),
        }


def summarize(run: Path) -> RunSummary:
    """Read the summary of a run from its folder.

    Raises:
        PathError: There is no run, or no epoch of it is done.
        CheckpointError: One of its files cannot be understood.
    """
    folder = RunFolder.existing(run)
    config = folder.read_config(TrainConfig)
    records = folder.read_metrics()
    description = folder.best.with_suffix(".json")
    if not records or not description.is_file():
        raise PathError(f"compare: {run} must have finished an epoch, got none.")
    last = records[-1]
    try:
        return RunSummary(
            path=run,
            config=config,
            epochs=(last["epoch"], config.sched.epochs),
            correct=last["test_correct"],
            total=last["test_total"],
            best_correct=max(
                max(record["test_correct"], record.get("raw_test_correct", 0)) for record in records
            ),
            top5_correct=last.get("test_top5_correct"),
            parameters=json.loads(description.read_text())["parameters"],
            seconds=last["seconds"],
            images_per_s=last["epoch"] * last["train_total"] / last["seconds"],
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"compare: {run} must hold whole metrics.jsonl and best.json, got '{error}'."
        ) from error


def seeds_of(summaries: Sequence[RunSummary]) -> list[Seeds]:
    """Group runs that have the same settings and as many epochs, but different seeds."""
    groups: dict[tuple[str, tuple[int, int]], dict[int, RunSummary]] = {}
    for summary in summaries:
        settings = replace(summary.config, seed=0).to_json()
        groups.setdefault((settings, summary.epochs), {}).setdefault(summary.config.seed, summary)
    return [
        Seeds(runs=tuple(group[seed] for seed in sorted(group)))
        for group in groups.values()
        if len(group) > 1
    ]
