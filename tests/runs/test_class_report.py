"""The report by class: every count is one of the matrix, and of many classes the worst are shown."""

import pytest
import torch

from lambdanets.runs.class_report import class_counts, class_lines, confused_pairs, listed_classes


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
