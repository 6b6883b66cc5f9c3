"""report.md: what was met on the way, class by class, and in the words of what was counted."""

import re

import pytest
import torch

from lambdanets.recipes import get_recipe
from lambdanets.runs.class_report import class_counts
from lambdanets.runs.report import _closing_lines
from lambdanets.runs.report_page import class_sections, event_rows, listed, result_rows, row_table
from lambdanets.training.metrics import Evaluation
from lambdanets.training.state import Events
from support.training import tiny_config, tiny_state


def test_a_run_without_faults_has_one_row_of_them():
    assert event_rows(Events(), 1000) == {"unreadable files": "none"}


def test_every_fault_is_counted():
    events = Events(
        unreadable=["a.jpg: truncated", "b.jpg: empty"],
        skipped_steps=list(range(100, 112)),
        rolled_back_steps=[7],
        failed_saves=3,
    )
    assert event_rows(events, 1_281_167) == {
        "unreadable files": "2 of 1,281,167 to train with, below",
        "skipped updates": "12, not finite: 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, …",
        "rollbacks": "1, not finite and passed over: 7",
        "failed saves": "3, the disk refused them",
    }


def test_unreadable_files_are_named_as_they_are():
    (section,) = listed("Unreadable files", [f"train/*{i}*_`x`.jpg: truncated" for i in range(60)])
    lines = section.splitlines()
    assert lines[0] == "Unreadable files:" and lines[2] == "```"
    assert lines[3] == "train/*0*_'x'.jpg: truncated"
    assert lines[-2:] == ["and 10 more", "```"] and len(lines) == 3 + 50 + 2
    assert listed("Unreadable files", []) == []


@pytest.mark.parametrize(("num_classes", "top5"), [(4, False), (5, False), (6, True)])
def test_top_5_is_shown_where_there_are_more_classes(num_classes, top5):
    config = tiny_config()
    state = tiny_state(config)
    state.best = {"epoch": 2, "test_accuracy": 0.75, "test_correct": 3, "test_total": 4}
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    confusion[0, 0], confusion[1, 0] = 2, 2
    rows = result_rows(config, state, Evaluation(confusion=confusion, loss=1.0, top5_correct=3))
    assert rows["accuracy"].startswith("50.00%, 2 of 4 held-out images")
    assert rows["best"].startswith("75.00%, 3 of 4, after epoch 2")
    assert rows.get("top-5") == ("75.00%, 3 of 4" if top5 else None)


def test_few_classes_are_all_in_the_table():
    counts = class_counts(torch.tensor([[3, 1], [0, 4]]), ["a|b", "c"])
    (section,) = class_sections(counts)
    assert section.splitlines()[2:] == [
        "| class | images | correct | recall | taken for |",
        "|---|---|---|---|---|",
        "| a\\|b | 4 | 3 | 75.0% | c (1) |",
        "| c | 4 | 4 | 100.0% | |",
    ]


def test_of_many_classes_the_worst_are_in_the_table():
    confusion = torch.eye(1000, dtype=torch.int64) * 50
    confusion[17, 18] = 40
    worst, pairs = class_sections(class_counts(confusion, [f"n{i:08d}" for i in range(1000)]))
    assert worst.startswith("The 10 of 1000 classes with the lowest recall:\n")
    assert worst.splitlines()[4] == "| n00000017 | 90 | 50 | 55.6% | n00000018 (40) |"
    assert "| n00000017 | n00000018 | 40 |" in pairs
    assert len(worst.splitlines()) == 2 + 2 + 10


def test_a_table_has_a_line_for_each_row():
    assert row_table({"a": "1", "b": "2 | 3"}) == "| | |\n|---|---|\n| a | 1 |\n| b | 2 \\| 3 |"


def test_closing_lines_fit_a_terminal():
    rows = {
        "accuracy": get_recipe.__doc__ or "",
        "files": "runs/" + "a long name/ " * 12 + ": report.md · curves.png",
    }
    lines = _closing_lines(rows).splitlines()
    assert lines[0] == "" and max(map(len, lines)) <= 80
    assert all(re.match(r"(accuracy|files|  ) ", line) for line in lines[1:])
