"""`lambdanets pseudo`: help, refusals, and what each action makes of its words."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.cli import pseudo
from lambdanets.cli.pseudo import _describe, iterate, label
from lambdanets.pseudo.iterations import train_student
from lambdanets.pseudo.labelling import Summary
from lambdanets.pseudo.settings import LabelRules
from lambdanets.recipes import get_recipe
from lambdanets.training.config import SchedConfig, TrainConfig
from lambdanets.training.run_folder import RunFolder
from support.commands import parsed, printed, refused


def test_the_actions_are_listed(capsys) -> None:
    output = printed(capsys, "pseudo", "--help")
    assert all(f"  pseudo {action} " in output for action in ("label", "train", "iterate"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("labl",),
            "got 'pseudo labl'. Closest: pseudo label",
        ),
        (
            ("train", "semi", "--ratio", "2"),
            "train: labels must be a folder of `lambdanets pseudo label`, got none. Give --labels DIR.",
        ),
        (
            ("train", "--labels", "a"),
            "lambdanets pseudo train: recipe must come first, got '--pseudo.labels'.",
        ),
        (("label", "--teacher", "nowhere", "--out", "x"), "must be a folder of `lambdanets train`"),
        (
            ("label", "--teacher", "timm:resnet18", "--out", "x"),
            "data.name must be given for a teacher",
        ),
        (("label", "--out", "x", "--data.name", "semi"), "--teacher STR A run folder,"),
        (("iterate", "semi", "--teacher", "nowhere", "--out", "x"), "must be a folder of `lambdanets train`"),
        (("iterate", "sem", "--teacher", "nowhere", "--out", "x"), "unknown recipe 'sem'. Closest: semi"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(words, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "pseudo", *words)
    assert not list(tmp_path.iterdir())


def test_refusals_leave_torch_alone() -> None:
    code = (
        "import sys\nfrom lambdanets.cli import run\n"
        "run(['pseudo', 'label', '--teacher', 'nowhere', '--out', 'x'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_train_has_short_names_for_two_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(pseudo, "call", lambda function, argv, command: calls.append(argv))
    pseudo.train(("semi", "--labels", "a", "--ratio=2", "--out", "b", "--optim.learning-rate", "1"))
    pseudo.train(("semi", "--pseudo.labels=a", "--data.labels", "c"))
    assert calls == [
        ["semi", "--pseudo.labels", "a", "--pseudo.ratio=2", "--out", "b", "--optim.learning-rate", "1"],
        ["semi", "--pseudo.labels=a", "--data.labels", "c"],
    ]


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ((), "usage: lambdanets pseudo train RECIPE [options]"),
        (("--help",), "usage: lambdanets pseudo train RECIPE [options]"),
        (("semi", "--help"), "usage: lambdanets pseudo train semi [-h] "),
    ],
)
def test_the_help_of_train_names_the_command_that_was_typed(words, usage: str, capsys) -> None:
    assert printed(capsys, "pseudo", "train", *words).startswith(usage)


def test_a_run_labels_its_own_data_set(tmp_path: Path) -> None:
    config = replace(get_recipe("semi"), seed=5)
    with RunFolder(tmp_path / "run").locked(config):
        pass
    words = ["--teacher", str(tmp_path / "run"), "--out", "labels", "--hard", "--balance", "30"]
    found = parsed(label, *words)
    assert (found["data"], found["seed"], found["out"]) == (config.data, 5, Path("labels"))
    assert found["rules"] == LabelRules(hard=True, balance=30)
    found = parsed(label, *words, "--data.max-shift", "0.5", "--seed", "6", "--balance", "none")
    assert (found["data"].max_shift, found["seed"], found["rules"].balance) == (0.5, 6, "none")
    found = parsed(
        label, "--teacher", "timm:resnet18", "--out", "x", "--data.name", "folder", "--data.root", "y"
    )
    assert (found["data"].name, found["data"].root_given, found["seed"]) == ("folder", "y", 0)


def test_iterations_take_settings_of_the_student() -> None:
    words = (
        "semi",
        "--teacher",
        "run",
        "--iterations",
        "2",
        "--out",
        "x",
        "--seed",
        "4",
        "--sched.epochs",
        "9",
    )
    found = parsed(iterate, *words)
    assert (found["config"].seed, found["config"].sched.epochs, found["iterations"]) == (4, 9, 2)
    assert (found["teacher"], found["rules"]) == ("run", LabelRules())


def test_a_summary_in_words() -> None:
    summary = Summary(
        num_images=2000,
        confident={"cat": 900, "dog": 600},
        selected={"cat": 750, "dog": 750},
        wrong={"all": 400, "confident": 150, "selected": 75},
    )
    assert _describe(summary).splitlines() == [
        "images  2,000 unlabelled",
        "kept    1,500, filtered 25.0%",
        "labels  1,500 after balancing",
        "wrong   20.0% of all, 10.0% of the kept, 5.0% of the labels",
        "",
        "class  kept  labels",
        "cat     900     750",
        "dog     600     750",
    ]
    assert "wrong" not in _describe(replace(summary, wrong=None))


@pytest.mark.slow
def test_label_train_and_iterate_from_the_command_line(tmp_path: Path, capsys) -> None:
    quick = replace(get_recipe("semi"), sched=SchedConfig(epochs=6, warmup_epochs=1.0))
    train_student(quick, tmp_path / "teacher")
    teacher, labels = str(tmp_path / "teacher"), str(tmp_path / "labels")
    low = ("--min-confidence", "0.1", "--hard")
    assert f"--labels {labels}" in printed(
        capsys, "pseudo", "label", "--teacher", teacher, "--out", labels, *low
    )
    short = ("--sched.epochs", "1", "--sched.warmup-epochs", "0")
    words = ("semi-student", "--labels", labels, "--ratio", "2", "--out", tmp_path / "student", *short)
    assert "pseudo" in printed(capsys, "pseudo", "train", *words)
    config = RunFolder.existing(tmp_path / "student").read_config(TrainConfig)
    assert (config.pseudo.labels, config.pseudo.ratio) == (labels, 2)
    words = ("semi-student", "--teacher", teacher, "--out", tmp_path / "iterated", *low, *short)
    assert "iteration 1: student" in printed(capsys, "pseudo", "iterate", *words)
