"""The report by class: every count is one of the matrix, and of many classes the worst are shown."""

import pytest
import torch

from lambdanets.runs.class_report import class_counts, class_lines, pairs, shown, taken_for, worst


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
    assert counts[3].to_dict()["taken_for"] == {"ant": 3, "bee": 3, "cat": 1}
    assert counts[1].share != counts[1].share


def test_the_worst_come_first_and_a_class_without_a_image_is_none(counts):
    assert [one.label for one in worst(counts)] == ["dog", "ant", "cat"]
    assert [one.label for one in worst(counts, 1)] == ["dog"]
    assert pairs(counts, 3) == [("dog", "ant", 3), ("dog", "bee", 3), ("ant", "dog", 2)]


def test_classes_of_one_name_keep_all_their_images():
    counts = class_counts(torch.tensor([[1, 2, 4], [0, 3, 0], [0, 0, 1]]), ["crane", "maillot", "maillot"])
    assert counts[0].taken_for == {"maillot": 6}


def test_few_classes_are_all_listed(counts):
    lines = list(class_lines(counts))
    assert [line.split()[0] for line in lines] == ["class", "ant", "bee", "cat", "dog"]
    assert lines[1] == "ant           8        5    62.5%  dog (2), bee (1)"
    assert lines[2].endswith("nan%")


def test_of_many_classes_the_worst_are_listed():
    size = 200
    confusion = torch.eye(size, dtype=torch.int64) * 10
    confusion[7] = 0
    confusion[7, :10] = 1
    confusion[150, 3] = 5
    lines = list(class_lines(class_counts(confusion, [f"n{index:08d}" for index in range(size)])))
    assert lines[0] == "the 10 classes of 200 of which the least is found"
    assert lines[2].startswith("n00000007        10        1    10.0%  n00000000 (1), n00000001 (1),")
    assert lines[2].endswith("n00000004 (1), …")
    assert lines[3].startswith("n00000150        15       10    66.7%  n00000003 (5)")
    assert "taken for one another most often" in lines and "    5  n00000150 for n00000003" in lines
    assert len(lines) == 1 + 1 + 10 + 2 + 10
    assert max(map(len, lines)) < 120


def test_words_for_what_was_taken(counts):
    assert taken_for(counts[3], most=2) == "ant (3), bee (3), …"
    assert shown(counts) == counts
