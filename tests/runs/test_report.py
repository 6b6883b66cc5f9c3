"""report.md: what was met on the way, class by class, and in the words of what was counted."""

import pytest
import torch

from lambdanets.data.task import Task
from lambdanets.runs.report import _class_values, _event_rows, _render, _result_rows
from lambdanets.training.metrics import Evaluation
from lambdanets.training.objective import Evaluations
from lambdanets.training.state import Events
from support.training import Stored, TinyData, tiny_config, tiny_state


def test_a_run_without_faults_has_one_row_of_them():
    assert _event_rows(Events(), 1000) == {"unreadable files": "none"}


def test_every_fault_is_counted():
    events = Events(
        unreadable=["a.jpg: truncated", "b.jpg: empty"],
        skipped_steps=list(range(100, 112)),
        rolled_back_steps=[7],
        failed_saves=3,
    )
    assert _event_rows(events, 1_281_167) == {
        "unreadable files": "2 of 1,281,167 to train with, below",
        "skipped updates": "12, not finite: 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, …",
        "rollbacks": "1, not finite and skipped: 7",
        "failed saves": "3, the disk refused them",
    }


def _task(num_classes, **options):
    data = TinyData()
    return Task(
        train=data, test=Stored(data), labels=tuple(map(str, range(num_classes))), in_channels=1, **options
    )


def test_a_validation_is_called_so_and_the_raw_weights_are_said():
    config = tiny_config()
    state = tiny_state(config)
    state.best = {"epoch": 2, "weights": "raw", "test_accuracy": 0.75, "test_correct": 3, "test_total": 4}
    ema, raw = (
        Evaluation(confusion=torch.tensor([[2, 0], [wrong, 2 - wrong]]), loss=1.0, top5_correct=4)
        for wrong in (2, 1)
    )
    evaluations = Evaluations(ema=ema, raw=raw)
    rows = _result_rows(config, state, evaluations, _task(2, test_name="validation"))
    assert rows["accuracy"] == "50.00%, 2 of 4 validation images, after the last epoch (EMA)"
    assert rows["raw weights"] == "75.00%, 3 of 4, 1 more than the EMA, within chance"
    assert rows["best"] == (
        "75.00%, 3 of 4, after epoch 2 (raw weights); chosen on the same 4 validation images, so optimistic"
    )


@pytest.mark.parametrize(("num_classes", "top5"), [(4, False), (5, False), (6, True)])
def test_top_5_is_shown_where_there_are_more_classes(num_classes, top5):
    config = tiny_config()
    state = tiny_state(config)
    state.best = {"epoch": 2, "test_accuracy": 0.75, "test_correct": 3, "test_total": 4}
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    confusion[0, 0], confusion[1, 0] = 2, 2
    evaluations = Evaluations(ema=Evaluation(confusion=confusion, loss=1.0, top5_correct=3))
    rows = _result_rows(config, state, evaluations, _task(num_classes))
    assert rows["accuracy"] == "50.00%, 2 of 4 test images, after the last epoch (EMA)"
    assert rows["best"] == (
        "75.00%, 3 of 4, after epoch 2 (EMA); chosen on the same 4 test images, so optimistic"
    )
    assert "raw weights" not in rows
    assert rows.get("top-5") == ("75.00%, 3 of 4" if top5 else None)


def _page(labels=("a|b", "c"), confusion=((3, 1), (0, 4)), **values):
    evaluation = Evaluation(confusion=torch.as_tensor(confusion), loss=1.0, top5_correct=8)
    values = {"rows": {}, "warnings": [], "unreadable": [], "images": [], "not_taken": []} | values
    classes = _class_values(evaluation, labels)
    return _render("report.md", config=tiny_config(), command="command", **classes, **values)


def test_the_page_has_a_section_for_each_thing_there_is():
    page = _page(rows={"a": "1", "b": "2 | 3"}, images=["curves.png"], warnings=["slow"])
    begin, end = page.split("Settings:\n\n```json\n")
    assert (
        begin
        == """# digits: lambda_resnet_digits

| | |
|---|---|
| a | 1 |
| b | 2 \\| 3 |

Repeat it in an empty folder:

```
command
```

Warnings:

```
slow
```

![curves](curves.png)

By class:

| class | images | correct | recall | predicted as |
|---|---|---|---|---|
| a\\|b | 4 | 3 | 75.0% | c (1) |
| c | 4 | 4 | 100.0% | |

"""
    )
    assert end == tiny_config().to_json() + "```\n"


def test_unreadable_files_are_named_as_they_are():
    page = _page(unreadable=[f"train/*{i}*_`x`.jpg: <truncated>" for i in range(60)])
    lines = page.partition("Unreadable files:\n\n```\n")[2].partition("```")[0].splitlines()
    assert lines[0] == "train/*0*_'x'.jpg: <truncated>"
    assert lines[-1] == "and 10 more" and len(lines) == 50 + 1


def test_of_many_classes_the_worst_are_in_the_table():
    confusion = torch.eye(1000, dtype=torch.int64) * 50
    confusion[17, 18] = 40
    page = _page([f"n{i:08d}" for i in range(1000)], confusion)
    worst, confusions = page.partition("The 10 of 1000 classes")[2].split("Most frequent confusions:\n")
    assert worst.splitlines()[4] == "| n00000017 | 90 | 50 | 55.6% | n00000018 (40) |"
    assert len(worst.strip().splitlines()) == 2 + 2 + 10
    assert "| n00000017 | n00000018 | 40 |\n" in confusions
