"""Iterations: a student trains to its end, labels in its turn, and nothing that is finished is done again."""

from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.data.config import SemiConfig
from lambdanets.errors import ArgumentError
from lambdanets.pseudo.iterations import iterate, train_student
from lambdanets.pseudo.settings import LabelConfig, LabelRules
from lambdanets.recipes import get_recipe
from lambdanets.training.config import SchedConfig, TrainConfig


def student(epochs: int, **changes) -> TrainConfig:
    return replace(get_recipe("semi-student"), sched=SchedConfig(epochs=epochs, warmup_epochs=0.5), **changes)


def labelling(teacher: Path) -> LabelConfig:
    rules = LabelRules(hard=True, min_confidence=0.1)
    return LabelConfig(teacher=str(teacher), data=SemiConfig(), rules=rules)


def test_at_least_one_iteration(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"iterate: num_iterations must be at least 1, got 0\."):
        list(iterate(student(1), labelling(tmp_path), num_iterations=0, out=tmp_path, log=print))


@pytest.mark.slow
def test_two_iterations_from_end_to_end(tmp_path: Path) -> None:
    quick = replace(get_recipe("semi"), sched=SchedConfig(epochs=8, warmup_epochs=1.0))
    train_student(quick, tmp_path / "teacher")

    def iterations(num: int, logged: list[str]):
        return list(
            iterate(
                student(2),
                labelling(tmp_path / "teacher"),
                num_iterations=num,
                out=tmp_path / "out",
                log=logged.append,
                ratio=3.0,
            )
        )

    (first,) = iterations(1, [])
    logged: list[str] = []
    again, second = iterations(2, logged)
    assert again == first
    assert sum(line.startswith("shard") for line in logged) == 1
    assert second.student == tmp_path / "out/iteration-2/student" and (second.student / "report.md").exists()
    assert f"iteration 2 of 2: {first.student} labels" in logged
    # Chance is 0.1, and two epochs are little.
    assert first.accuracy > 0.2 and second.accuracy > 0.2
    assert second.summary.wrong_fraction is not None
    command = f"lambdanets pseudo train semi-student --labels {first.labels} --ratio 3 --out {first.student}"
    assert command in (first.student / "report.md").read_text()
