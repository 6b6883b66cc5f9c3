"""The report by class: every count is one of the matrix, and of many classes the worst are shown."""

from collections import Counter

import pytest
import torch

from lambdanets.runs.class_report import (
    class_counts,
    class_lines,
    confused_pairs,
    listed_classes,
    load_confusion,
    save_confusion,
)
from lambdanets.runs.plots import draw_confusion
from lambdanets.training.metrics import Evaluation, confusion_entries, confusion_matrix
from support.figures import assert_readable


@pytest.fixture
def counts():
    confusion = torch.tensor([[5, 1, 0, 2], [0, 0, 0, 0], [0, 0, 7, 0], [3, 3, 1, 3]])
    return class_counts(confusion, ["ant", "bee", "cat", "dog"])


def test_counts_are_those_of_the_matrix(counts):
    assert [(one.label, one.total, one.correct) for one in counts] == [
        ("ant", 8, 5),
        ("bee", 0, 0),
        ("cat", 7, 7),
        ("dog", 10, 3),
    ]
    assert list(counts[0].taken_for.items()) == [("dog", 2), ("bee", 1)]
    assert counts[3].to_dict() == {
        "label": "dog",
        "total": 10,
        "correct": 3,
        "taken_for": {"ant": 3, "bee": 3, "cat": 1},
    }
    assert counts[1].recall != counts[1].recall
    assert confused_pairs(counts)[:3] == [("dog", "ant", 3), ("dog", "bee", 3), ("ant", "dog", 2)]


def test_classes_of_one_name_keep_all_their_images():
    counts = class_counts(torch.tensor([[1, 2, 4], [0, 3, 0], [0, 0, 1]]), ["crane", "maillot", "maillot"])
    assert counts[0].taken_for == {"maillot": 6}


def test_few_classes_are_all_listed(counts):
    lines = list(class_lines(counts))
    assert [line.split()[0] for line in lines] == ["class", "ant", "bee", "cat", "dog"]
    assert lines[1].split(maxsplit=4) == ["ant", "8", "5", "62.5%", "dog (2), bee (1)"]
    assert lines[2].split() == ["bee", "0", "0", "nan"]


def test_of_many_classes_the_worst_are_listed():
    size = 200
    confusion = torch.eye(size, dtype=torch.int64) * 10
    confusion[7] = 0
    confusion[7, :10] = 1
    confusion[150, 3] = 5
    # A class without an image is none of the worst.
    confusion[160] = 0
    counts = class_counts(confusion, [f"n{index:08d}" for index in range(size)])
    assert [count.recall for count in listed_classes(counts)] == pytest.approx([0.1, 2 / 3, *[1] * 8])
    lines = list(class_lines(counts))
    assert lines[0] == "the 10 of 200 classes with the lowest recall"
    assert lines[2].startswith("n00000007") and lines[2].endswith("n00000004 (1), …")
    assert lines[3].split(maxsplit=4) == ["n00000150", "15", "10", "66.7%", "n00000003 (5)"]
    assert "most frequent confusions" in lines and "    5  n00000150 for n00000003" in lines
    assert len(lines) == 1 + 1 + 10 + 2 + 10
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize("num", [7, 1024, 1025, 21_841])
def test_a_matrix_of_any_number_of_classes_is_that_of_its_images(tmp_path, num):
    """Against counts by hand; beyond a thousand classes nothing has the size of their square."""
    generator = torch.Generator().manual_seed(0)
    classes, found = (torch.randint(0, num, (500,), generator=generator) for _ in range(2))
    found[:300] = classes[:300]
    matrix = confusion_matrix(torch.stack((classes, found, torch.ones_like(classes)), dim=1), num)
    evaluation = Evaluation(confusion=matrix, loss=1.0, top5_correct=500)
    assert matrix.is_sparse == (num > 1024) and matrix.shape == (num, num)
    assert (evaluation.correct, evaluation.total) == (int((classes == found).sum()), 500)
    pairs = Counter(zip(classes.tolist(), found.tolist(), strict=True))
    assert {(row, column): times for row, column, times in confusion_entries(matrix).tolist()} == pairs
    labels = [f"n{index:08d}" for index in range(num)]
    save_confusion(tmp_path, matrix, labels)
    kept, names = load_confusion(tmp_path)
    assert names == labels and confusion_entries(kept).equal(confusion_entries(matrix))
    counts = class_counts(kept, names)
    assert [one.total for one in counts] == classes.bincount(minlength=num).tolist()
    if num > 1024:
        figure = draw_confusion(kept, names, "title")
        assert_readable(figure)
        ordered, confused = figure.axes
        assert len(ordered.lines[0].get_xdata()) == len({*classes.tolist()})
        assert len(confused.patches) == 10
