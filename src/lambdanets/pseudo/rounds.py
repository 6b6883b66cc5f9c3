"""Rounds of pseudo-labels: label, train a student, and let it label in its turn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lambdanets.data.config import PseudoConfig
from lambdanets.errors import ArgumentError
from lambdanets.pseudo.labelling import Summary, write_labels
from lambdanets.pseudo.settings import LabelConfig
from lambdanets.runs.train import train
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round left.

    Attributes:
        number: From 1.
        labels: The folder of the teacher's labels.
        summary: What they are.
        student: The run folder.
        accuracy: Of the student on the test images after its last epoch.
    """

    number: int
    labels: Path
    summary: Summary
    student: Path
    accuracy: float


def run_rounds(
    student: TrainConfig,
    labelling: LabelConfig,
    *,
    num_rounds: int,
    out: Path,
    tell: Callable[[str], None],
    ratio: float = 1.0,
) -> Iterator[Round]:
    """Label with the teacher, train a student on the labels, label with the student, and so on.

    What an earlier process finished is passed over, what it was at goes on: `out/round-1/labels`,
    `out/round-1/student`, `out/round-2/labels`, …

    Args:
        student: The config of each student, without labels.
        labelling: The first one; the later ones differ in their teacher.
        num_rounds: How many students.
        out: The folder.
        tell: Is told what happens.
        ratio: Pseudo-labelled images to each labelled one.

    Raises:
        ArgumentError: A folder holds something else, or there is nothing to do.
        StoppedError: A signal asked a training to stop; the same call goes on.
    """
    if num_rounds < 1:
        raise ArgumentError(f"run_rounds: num_rounds must be at least 1, got {num_rounds}.")
    for number in range(1, num_rounds + 1):
        folder = out / f"round-{number}"
        tell(f"round {number} of {num_rounds}: {labelling.teacher} labels")
        summary = write_labels(labelling, folder / "labels", tell=tell)
        pseudo = PseudoConfig(labels=str(folder / "labels"), ratio=ratio)
        tell(f"round {number} of {num_rounds}: a student trains in {folder / 'student'}")
        accuracy = train_student(replace(student, pseudo=pseudo), folder / "student")
        yield Round(
            number=number,
            labels=folder / "labels",
            summary=summary,
            student=folder / "student",
            accuracy=accuracy,
        )
        labelling = replace(labelling, teacher=str(folder / "student"), weights=None)


def train_student(config: TrainConfig, path: Path) -> float:
    """Train a config in a folder, or take what an earlier process finished there.

    Returns:
        The accuracy after the last epoch.
    """
    with RunFolder(path).locked(config) as folder:
        if not folder.finished(config):
            train(config, folder, command=command_of(config, path))
        return float(folder.read_metrics()[-1]["test_accuracy"])


def command_of(config: TrainConfig, path: Path) -> str:
    """A command that trains one student alone; settings that differ from the recipe stand in its config."""
    labels, ratio = config.pseudo.labels, config.pseudo.ratio
    return f"lambdanets pseudo train {config.recipe} --labels {labels} --ratio {ratio:g} --out {path}"
