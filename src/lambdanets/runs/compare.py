"""Runs side by side, and seeds of one recipe together, from what their folders hold; without torch."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lambdanets.errors import CheckpointError, PathError
from lambdanets.reading import Number, check_fields, check_sum, read_json, reading
from lambdanets.training.changes import flatten
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder

# What is read of each line of metrics.jsonl, and of the last.
_COUNT: Final = Number(int, 0)
_COUNTS: Final = {"test_correct": _COUNT, "raw_test_correct?": _COUNT}
_LAST: Final = {
    "test_total": Number(int, 1),
    "train_total": _COUNT,
    "test_top5_correct?": _COUNT,
    "seconds": Number(float, 1e-9),
}


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run in numbers.

    Attributes:
        path: The run folder.
        config: The settings of the run.
        epochs: Epochs done so far, and of how many.
        correct: Evaluated images that the EMA model classifies correctly after the last epoch.
        total: Evaluated images.
        raw_correct: The same with the raw weights, where they were evaluated.
        best_correct: The most of any epoch, of EMA and raw weights: chosen on the same images.
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
    raw_correct: int | None = None
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

    @property
    def raw_accuracy(self) -> float | None:
        """The same with the raw weights; None where they were not evaluated."""
        return None if self.raw_correct is None else self.raw_correct / self.total

    @property
    def test_name(self) -> str:
        """What the evaluated images are called: test, or validation."""
        return self.config.data.test_name

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
            "evaluated_on": self.test_name,
            "accuracy": self.accuracy,
            "raw_accuracy": self.raw_accuracy,
            "correct": self.correct,
            "raw_correct": self.raw_correct,
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
    def raw_accuracies(self) -> list[float]:
        """The same with the raw weights; empty where not all runs have them."""
        found = [run.raw_accuracy for run in self.runs]
        return [accuracy for accuracy in found if accuracy is not None] if None not in found else []

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
            "raw_accuracy_mean": statistics.fmean(self.raw_accuracies) if self.raw_accuracies else None,
            "raw_accuracy_std": statistics.stdev(self.raw_accuracies) if self.raw_accuracies else None,
        }


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The mean accuracy of some seeds less that of others.

    Attributes:
        first: The former.
        second: The latter.
    """

    first: Seeds
    second: Seeds

    @property
    def mean(self) -> float:
        """The difference of the means."""
        return self.first.mean - self.second.mean

    @property
    def standard_error(self) -> float:
        """Standard error of the difference, for spreads that may differ (Welch)."""
        return math.hypot(*(group.std / math.sqrt(len(group.runs)) for group in (self.first, self.second)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "first": [str(run.path) for run in self.first.runs],
            "second": [str(run.path) for run in self.second.runs],
            "accuracy_difference": self.mean,
            "standard_error": self.standard_error,
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
    with reading("compare", run, "hold whole metrics.jsonl and best.json", CheckpointError):
        described = read_json(description, {"parameters": Number(int, 0)})
        check_sum(described)
        for record in records:
            check_fields(record, _COUNTS)
        check_fields(last, _LAST)
    return RunSummary(
        path=run,
        config=config,
        epochs=(last["epoch"], config.sched.epochs),
        correct=last["test_correct"],
        total=last["test_total"],
        best_correct=max(
            max(record["test_correct"], record.get("raw_test_correct") or 0) for record in records
        ),
        raw_correct=last.get("raw_test_correct"),
        top5_correct=last.get("test_top5_correct"),
        parameters=described["parameters"],
        seconds=last["seconds"],
        images_per_s=last["epoch"] * last["train_total"] / last["seconds"],
    )


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


def differences_of(groups: Sequence[Seeds]) -> list[Difference]:
    """Compare the first group of seeds with each other one."""
    return [Difference(first=groups[0], second=other) for other in groups[1:]]


def differing_settings(summaries: Sequence[RunSummary]) -> dict[str, list[object]]:
    """The settings that are not the same in all runs: dotted name -> the value of each run, or None."""
    settings = [flatten(summary.config) for summary in summaries]
    names = dict.fromkeys(name for one in settings for name in one)
    values = {name: [one.get(name) for one in settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def setting_text(value: object) -> str:
    """Write the value of a setting as a table shows it."""
    if isinstance(value, tuple | list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {one}" for name, one in value.items()) or "none"
    return "none" if value in (None, "") else str(value)
