"""What is taken for what, class by class; of many classes the worst alone."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jaxtyping import Int
from torch import Tensor

# More classes than a page or a terminal should list: the worst are shown in their place.
MANY: Final = 20
WORST: Final = 10
# More classes than a matrix is written out for.
LARGEST_MATRIX: Final = 100


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """One class of the test.

    Attributes:
        label: Its name.
        total: Images of it.
        correct: How many of them were found.
        taken_for: Other classes with how many images were taken for each, most first.
    """

    label: str
    total: int
    correct: int
    taken_for: dict[str, int]

    @property
    def share(self) -> float:
        """How much of it is found; nan where there is no image."""
        return self.correct / self.total if self.total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "label": self.label,
            "total": self.total,
            "correct": self.correct,
            "taken_for": self.taken_for,
        }


def class_counts(
    confusion: Int[Tensor, "num_classes num_classes"], labels: Sequence[str]
) -> list[ClassCount]:
    """Read the classes off a confusion matrix.

    Args:
        confusion: Images of each class (row) by the class they were taken for (column).
        labels: The name of each class.
    """
    taken: list[Counter[str]] = [Counter() for _ in labels]
    places = confusion.nonzero()
    for (row, column), times in zip(places.tolist(), confusion[tuple(places.T)].tolist(), strict=True):
        if row != column:
            taken[row][labels[column]] += times
    totals, found = confusion.sum(dim=1).tolist(), confusion.diagonal().tolist()
    return [
        ClassCount(label=label, total=total, correct=correct, taken_for=dict(others.most_common()))
        for label, total, correct, others in zip(labels, totals, found, taken, strict=True)
    ]


def worst(counts: Sequence[ClassCount], most: int = WORST) -> list[ClassCount]:
    """The classes of which the least is found, worst first; those without an image are no classes."""
    present = [count for count in counts if count.total]
    return sorted(present, key=lambda count: (count.share, -count.total))[:most]


def pairs(counts: Sequence[ClassCount], most: int = WORST) -> list[tuple[str, str, int]]:
    """What is most often taken for what: (is, taken for, images), most first."""
    found = [(count.label, other, times) for count in counts for other, times in count.taken_for.items()]
    return sorted(found, key=lambda pair: -pair[2])[:most]


def shown(counts: Sequence[ClassCount]) -> list[ClassCount]:
    """The classes that a page lists: all of a few, the worst of many."""
    return list(counts) if len(counts) <= MANY else worst(counts)


def class_lines(counts: Sequence[ClassCount]) -> Iterator[str]:
    """The report for a terminal."""
    rows = shown(counts)
    if len(rows) < len(counts):
        yield f"the {len(rows)} classes of {len(counts)} of which the least is found"
    width = max(5, *(len(row.label) for row in rows)) if rows else 5
    yield f"{'class':<{width}}  {'images':>8}  {'correct':>7}  {'share':>7}  taken for"
    for row in rows:
        line = f"{row.label:<{width}}  {row.total:>8}  {row.correct:>7}  {row.share:>7.1%}  {taken_for(row)}"
        yield line.rstrip()
    if len(rows) < len(counts):
        yield ""
        yield "taken for one another most often"
        yield from (f"{times:>5}  {label} for {other}" for label, other, times in pairs(counts))


def taken_for(count: ClassCount, most: int = 5) -> str:
    """What a class was taken for, in words."""
    named = [f"{other} ({times})" for other, times in list(count.taken_for.items())[:most]]
    return ", ".join(named) + (", …" if len(count.taken_for) > most else "")
