"""Evaluation of a run's best network, as one job."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambdanets.jobs.tasks import load_task
from lambdanets.jobs.trained import load_trained
from lambdanets.training.feeding import test_batches
from lambdanets.training.metrics import Evaluation, evaluate
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class RunEvaluation:
    """What a run's best network makes of the test pictures.

    Attributes:
        evaluation: The counts.
        labels: The name of each class.
        description: All that `best.json` says of the network.
    """

    evaluation: Evaluation
    labels: tuple[str, ...]
    description: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        evaluation = self.evaluation
        return {
            "recipe": self.description["recipe"],
            "model": self.description["model"]["name"],
            "epoch": self.description["metric"]["epoch"],
            "accuracy": evaluation.accuracy,
            "correct": evaluation.correct,
            "total": evaluation.total,
            "loss": evaluation.loss,
            "classes": self.per_class(),
            "confusion": evaluation.confusion.tolist(),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """For each class how many there are, how many are found, and what is most often taken for what."""
        rows = []
        for label, counts in zip(self.labels, self.evaluation.confusion.tolist(), strict=True):
            index = self.labels.index(label)
            taken = {
                other: count
                for other, count in zip(self.labels, counts, strict=True)
                if count and other != label
            }
            rows.append({"label": label, "total": sum(counts), "correct": counts[index], "taken_for": taken})
        return rows


def evaluate_run(run: Path) -> RunEvaluation:
    """Evaluate the best network of a run on its test pictures.

    Args:
        run: A run folder.

    Raises:
        PathError: There is no run, or it has not evaluated anything yet.
        CheckpointError: The weights are damaged.
    """
    trained = load_trained(run)
    task = load_task(RunFolder.existing(run).read_config())
    evaluation = evaluate(trained.model, test_batches(task.test), len(trained.labels))
    return RunEvaluation(evaluation=evaluation, labels=trained.labels, description=trained.description)
