"""The evaluation class by class, and the most frequent confusions; of many classes the worst alone."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.errors import CheckpointError
from lambdanets.files import replace_file
from lambdanets.reading import Number, UnreadableError, read_json, reading
from lambdanets.terminal import table
from lambdanets.text import printable
from lambdanets.training.metrics import confusion_entries, confusion_matrix

# Beside the image of the same name.
_CONFUSION: Final = "confusion.json"
# More classes than a page or a terminal should list: the worst are shown instead.
_MANY: Final = 20
_WORST: Final = 10
# More classes than a matrix is written out for.
LARGEST_MATRIX: Final = 100


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """The test images of one class.

    Attributes:
        label: The name of the class.
        total: How many there are.
        correct: How many were classified correctly.
        taken_for: Other classes with how many images were predicted as each, most first.
    """

    label: str
    total: int
    correct: int
    taken_for: dict[str, int]

    @property
    def recall(self) -> float:
        """The fraction that was classified correctly; nan where there is no image."""
        return self.correct / self.total if self.total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """The row of a table with the `HEADINGS`; of the other classes the five most frequent."""
        named = [f"{other} ({times})" for other, times in list(self.taken_for.items())[:5]]
        others = ", ".join(named) + (", …" if len(self.taken_for) > len(named) else "")
        recall = f"{self.recall:.1%}" if self.total else "nan"
        return self.label, str(self.total), str(self.correct), recall, others


HEADINGS: Final = ("class", "images", "correct", "recall", "predicted as")


def class_counts(
    confusion: Int[Tensor, "num_classes num_classes"], labels: Sequence[str]
) -> list[ClassCount]:
    """Read the classes off a confusion matrix.

    Args:
        confusion: Images of each class (row) by the class they were predicted as (column).
        labels: The name of each class.
    """
    taken_for: list[dict[str, int]] = [{} for _ in labels]
    totals, correct = [0] * len(labels), [0] * len(labels)
    for row, column, times in confusion_entries(confusion).tolist():
        totals[row] += times
        if row == column:
            correct[row] = times
        else:
            # Two classes may have one name.
            taken_for[row][labels[column]] = taken_for[row].get(labels[column], 0) + times
    return [
        ClassCount(
            label=label,
            total=total,
            correct=right,
            taken_for=dict(sorted(others.items(), key=lambda other: -other[1])),
        )
        for label, total, right, others in zip(labels, totals, correct, taken_for, strict=True)
    ]


def listed_classes(counts: Sequence[ClassCount]) -> list[ClassCount]:
    """The classes that a page lists: all of a few; of many the worst that have images, worst first."""
    if len(counts) <= _MANY:
        return list(counts)
    present = [count for count in counts if count.total]
    return sorted(present, key=lambda count: (count.recall, -count.total))[:_WORST]


def confused_pairs(counts: Sequence[ClassCount]) -> list[tuple[str, str, int]]:
    """The most frequent confusions: (class, predicted as, images), most first."""
    pairs = [(count.label, other, times) for count in counts for other, times in count.taken_for.items()]
    return sorted(pairs, key=lambda pair: -pair[2])[:_WORST]


def class_lines(counts: Sequence[ClassCount]) -> Iterator[str]:
    """The report for a terminal."""
    rows = listed_classes(counts)
    if len(rows) < len(counts):
        yield f"the {len(rows)} of {len(counts)} classes with the lowest recall"
    yield from table(HEADINGS, [row.cells() for row in rows]).splitlines()
    if len(rows) < len(counts):
        yield ""
        yield "most frequent confusions"
        yield from (f"{times:>5}  {label} for {other}" for label, other, times in confused_pairs(counts))


def save_confusion(
    folder: Path, confusion: Int[Tensor, "num_classes num_classes"], labels: Sequence[str]
) -> None:
    """Write a confusion matrix beside its image: labels, and (row, column, images) of what is not zero."""
    text = json.dumps({"labels": list(labels), "entries": confusion_entries(confusion).tolist()})
    replace_file(folder / _CONFUSION, f"{text}\n".encode())


def load_confusion(folder: Path) -> tuple[Int[Tensor, "num_classes num_classes"], list[str]] | None:
    """Read the matrix that `save_confusion` wrote, and the labels; None where there is none."""
    path = folder / _CONFUSION
    if not os.path.lexists(path):
        return None
    with reading("report", path, "hold a confusion matrix", CheckpointError):
        stored = read_json(path, {"labels": [str], "entries": [[Number(int, 0)]]})
        if any(len(entry) != 3 for entry in stored["entries"]):
            raise UnreadableError("an entry that is no triple")
        entries = torch.tensor(stored["entries"], dtype=torch.int64).reshape(-1, 3)
        labels = [printable(label) for label in stored["labels"]]
        if len(entries) and int(entries[:, :2].max()) >= len(labels):
            raise UnreadableError("entries that are of no class")
    return confusion_matrix(entries, len(labels)), labels
