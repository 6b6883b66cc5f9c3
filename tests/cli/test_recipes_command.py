"""`lambdanets recipes`: the list, the page's table, the SLURM script, a sentence for each mistake."""

from pathlib import Path

import pytest

from lambdanets.recipes import RECIPES, recipes_of
from lambdanets.training.config import TrainConfig
from support.commands import printed, refused

PAGE = Path(__file__).resolve().parents[2] / "docs/recipes.md"


def test_every_recipe_has_a_line(capsys):
    lines = printed(capsys, "recipes").splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [*RECIPES]
    assert lines[-1] == f"{len(RECIPES)} recipes"
    lines = printed(capsys, "recipes", "*resnet152-2*").splitlines()
    assert [line.split()[0][-3:] for line in lines[:-1]] == ["224", "256", "288"]


@pytest.mark.parametrize("words", [("recipes",), ("train",), ("slurm", "--help")])
def test_the_list_fits_the_terminal(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = printed(capsys, *words).splitlines()
    assert max(map(len, lines)) <= 80
    names = recipes_of(TrainConfig) if words[0] == "train" else RECIPES
    assert {*names} <= {line.split()[0] for line in lines if line.strip()}


def test_the_page_has_the_table(capsys):
    assert printed(capsys, "recipes", "--format", "markdown") in PAGE.read_text()


def test_the_script_has_the_settings_that_train_takes(capsys):
    words = ("slurm", "imagenet-mobilenetv2", "--nodes", "2", "--data.root", "/x", "--gpus-per-node=4")
    text = printed(capsys, *words, "--out", "runs/a b", "--exec.compile", "--time", "0:30:00")
    assert "-m lambdanets train imagenet-mobilenetv2 --data.root /x --out 'runs/a b' --exec.compile" in text
    assert "#SBATCH --time=0:30:00\n" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("slurm", "digits"), "--nodes 1<=INT<=100000 Number of machines. (required)"),
        (("slurm", "--nodes", "1", "--gpus-per-node", "1"), "slurm: recipe must come first, got '--nodes'."),
        (("slurm", "digit", "--nodes", "1", "--gpus-per-node", "1"), "Closest: digits"),
        (("slurm", "digits", "--nodes", "1", "--gpus-per-node", "1", "--sched.epoch", "3"), "--sched.epochs"),
        (("slurm", "digits", "--nodes", "0", "--gpus-per-node", "1"), "nodes must be at least 1, got 0."),
        (
            ("recipes", "nothing*"),
            f"recipes: pattern must fit one of {len(RECIPES)} recipes, got 'nothing*'. `lambdanets"
            " recipes` lists them all.",
        ),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert message in refused(capsys, *words)
