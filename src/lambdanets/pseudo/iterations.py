"""Iterated pseudo-labels: label, train a student, and let it be the next teacher."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lambdanets.data.augment import PseudoConfig
from lambdanets.errors import check_positive
from lambdanets.pseudo.labelling import Summary, write_labels
from lambdanets.pseudo.settings import LabelConfig
from lambdanets.runs.train import train
from lambdanets.text import shell_words
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """The results of one iteration, counted from 1.

    Attributes:
        labels: The folder of the teacher's labels.
        summary: The numbers of these labels.
        student: The run folder.
        accuracy: The student's accuracy on the test images after its last epoch.
    """

    number: int
    labels: Path
    summary: Summary
    student: Path
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "iteration": self.number,
            "labels": self.labels,
            "run": self.student,
            "accuracy": self.accuracy,
            "labelling": self.summary.to_dict(),
        }


def iterate(
    student: TrainConfig,
    labelling: LabelConfig,
    *,
    num_iterations: int,
    out: Path,
    log: Callable[[str], None],
    ratio: float = 1.0,
) -> Iterator[Iteration]:
    """Label with the teacher, train a student on the labels, label with the student, and so on.

    Finished parts of an earlier process are kept, an unfinished one continues: `out/iteration-1/labels`,
    `out/iteration-1/student`, `out/iteration-2/labels`, …

    Args:
        student: The config of each student, without labels.
        labelling: The first one; the later ones differ in their teacher.
        num_iterations: The number of students.
        out: The folder of all iterations.
        log: Called with a line for each thing that begins.
        ratio: Pseudo-labelled images to each labelled one.
    """
    check_positive("iterate", num_iterations=num_iterations)
    for number in range(1, num_iterations + 1):
        labels, run = (out / f"iteration-{number}" / part for part in ("labels", "student"))
        log(f"iteration {number} of {num_iterations}: {labelling.teacher} labels")
        summary = write_labels(labelling, labels, log=log)
        log(f"iteration {number} of {num_iterations}: a student trains in {run}")
        accuracy = train_student(replace(student, pseudo=PseudoConfig(labels=str(labels), ratio=ratio)), run)
        yield Iteration(number=number, labels=labels, summary=summary, student=run, accuracy=accuracy)
        labelling = replace(labelling, teacher=str(run), weights=None)


def train_student(config: TrainConfig, path: Path) -> float:
    """Train a config in a folder, or find it finished there, and return the accuracy after the last epoch."""
    # Settings that differ from the recipe stand in the run's config.
    labels, ratio = config.pseudo.labels, config.pseudo.ratio
    words = (config.recipe, "--labels", labels, "--ratio", f"{ratio:g}", "--out", path)
    command = shell_words("lambdanets", "pseudo", "train", *words)
    with RunFolder(path).locked(config) as folder:
        if not folder.finished(config):
            folder.append_log(command)
            train(config, folder, command=command)
        return float(folder.read_metrics()[-1]["test_accuracy"])
