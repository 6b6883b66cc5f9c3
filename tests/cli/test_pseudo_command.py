"""`lambdanets pseudo`: help, refusals, and what each action makes of its words."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.cli import run
from lambdanets.cli.pseudo import describe, parse_label, parse_rounds, train_words
from lambdanets.errors import ArgumentError
from lambdanets.pseudo.labelling import Summary
from lambdanets.pseudo.rounds import train_student
from lambdanets.pseudo.settings import LabelRules
from lambdanets.recipes import get_recipe
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.settings import SchedConfig


def exit_code(*words: str) -> object:
    try:
        return run(words)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("words", [("pseudo",), ("pseudo", "--help")])
def test_the_actions_are_listed(words, capsys) -> None:
    assert exit_code(*words) == 0
    output = capsys.readouterr().out
    assert all(f"lambdanets pseudo {action} " in output for action in ("label", "train", "rounds"))


def test_the_options_are_frozen(capsys) -> None:
    shared = {"--teacher", "--weights", "--soft", "--hard", "--min-confidence", "--balance", "--shard-size"}
    for action, own in {
        "label": {"--out", "--num-workers", "--device"},
        "rounds": {"--out", "--rounds", "--ratio"},
    }.items():
        assert exit_code("pseudo", action, "--help") == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
        assert {words[0] for words in lines} == shared | own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("labl",), "pseudo: action must be one of 'label', 'train', 'rounds', got 'labl'. Closest: label"),
        (("train", "semi"), "pseudo train: labels must be a folder of `lambdanets pseudo label`, got none."),
        (("label", "--teacher", "nowhere", "--out", "x"), "must be a folder of `lambdanets train`"),
        (("label", "--teacher", "timm:resnet18", "--out", "x"), "data.name must say which images"),
        (("label", "--out", "x"), "the following arguments are required: --teacher"),
        (("rounds", "semi", "--teacher", "nowhere", "--out", "x"), "must be a folder of `lambdanets train`"),
        (("rounds", "sem", "--teacher", "nowhere", "--out", "x"), "invalid choice: 'sem'"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(words, message, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code("pseudo", *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_refusals_leave_torch_alone() -> None:
    code = (
        "import sys\nfrom lambdanets.cli import run\n"
        "try: run(['pseudo', 'label', '--teacher', 'nowhere', '--out', 'x'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_train_has_short_names_for_two_settings() -> None:
    words = ["semi", "--labels", "a", "--ratio=2", "--out", "b", "--optim.learning-rate", "1"]
    assert train_words(words) == [
        *("semi", "--pseudo.labels", "a", "--pseudo.ratio=2", "--out", "b", "--optim.learning-rate", "1")
    ]
    with pytest.raises(ArgumentError, match=r"Give --labels DIR\."):
        train_words(["semi", "--ratio", "2"])
    assert train_words(["semi", "--help"]) == ["semi", "--help"]


def test_a_run_labels_its_own_data_set(tmp_path: Path) -> None:
    config = replace(get_recipe("semi"), seed=5)
    with RunFolder(tmp_path / "run").locked(config):
        pass
    words = ["--teacher", str(tmp_path / "run"), "--out", "labels", "--hard", "--balance", "30"]
    labelling, arguments = parse_label(words)
    assert (labelling.data, labelling.seed) == (config.data, 5)
    assert labelling.rules == LabelRules(hard=True, balance=30)
    assert arguments.out == Path("labels")
    other, _ = parse_label([*words, "--data.max-shift", "0.5", "--seed", "6", "--balance", "none"])
    assert (other.data.max_shift, other.seed, other.rules.balance) == (0.5, 6, "none")
    outside, _ = parse_label(
        ["--teacher", "timm:resnet18", "--out", "x", "--data.name", "folder", "--data.root", "y"]
    )
    assert (outside.data.name, outside.data.root) == ("folder", "y")


def test_rounds_take_settings_of_the_student() -> None:
    words = ["semi", "--teacher", "run", "--rounds", "2", "--out", "x", "--seed", "4", "--sched.epochs", "9"]
    options, labelling, arguments = parse_rounds(words)
    assert (options.config.seed, options.config.sched.epochs, arguments.rounds) == (4, 9, 2)
    assert (labelling.teacher, labelling.seed, labelling.data) == ("run", 4, options.config.data)


def test_a_summary_in_words() -> None:
    summary = Summary(
        num_images=2000,
        sure={"cat": 900, "dog": 600},
        selected={"cat": 750, "dog": 750},
        wrong={"all": 400, "sure": 150, "selected": 75},
    )
    assert describe(summary).splitlines() == [
        "images  2,000 unlabelled",
        "kept      1,500, filtered 25.0%",
        "labels    1,500 after balancing",
        "wrong     20.0% of all, 10.0% of the kept, 5.0% of the labels",
        "",
        "class           kept  labels",
        "cat              900     750",
        "dog              600     750",
    ]
    assert "wrong" not in describe(replace(summary, wrong=None))


@pytest.mark.slow
def test_label_train_and_rounds_from_the_command_line(tmp_path: Path, capsys) -> None:
    quick = replace(get_recipe("semi"), sched=SchedConfig(epochs=6, warmup_epochs=1.0))
    train_student(quick, tmp_path / "teacher")
    teacher, labels = str(tmp_path / "teacher"), str(tmp_path / "labels")
    low = ("--min-confidence", "0.1", "--hard")
    assert exit_code("pseudo", "label", "--teacher", teacher, "--out", labels, *low) == 0
    assert f"--labels {labels}" in capsys.readouterr().out
    short = ("--sched.epochs", "1", "--sched.warmup-epochs", "0")
    words = ("semi-student", "--labels", labels, "--ratio", "2", "--out", str(tmp_path / "student"), *short)
    assert exit_code("pseudo", "train", *words) == 0
    assert "pseudo" in capsys.readouterr().out
    config = RunFolder.existing(tmp_path / "student").read_config()
    assert (config.pseudo.labels, config.pseudo.ratio) == (labels, 2)
    words = ("semi-student", "--teacher", teacher, "--out", str(tmp_path / "rounds"), *low, *short)
    assert exit_code("pseudo", "rounds", *words) == 0
    assert "round 1: student" in capsys.readouterr().out
