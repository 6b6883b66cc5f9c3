"""Every number on a command line: taken, or refused with exit 2 and a message that names its option."""

import re
from functools import wraps
from importlib import import_module

import pytest

from lambdanets.cli import commands, run
from lambdanets.cli._options import call
from lambdanets.errors import ArgumentError, ArgumentTypeError
from support.commands import printed, refused
from support.hostile import WORDS

# What a command needs beside the number.
ARGUMENTS = {
    "bench": "ops --explain 28x28",
    "data check": "root",
    "data shard": "root out",
    "data scenes": "--out out",
    "detect compare": "a b",
    "detect eval": "run",
    "detect predict": "run image.png --out out",
    "detect train": "scenes-demo",
    "doctor": "",
    "eval": "run",
    "explain": "resnet50 image.png",
    "predict": "run image.png",
    "pseudo iterate": "semi --teacher timm:x --out out",
    "pseudo label": "--teacher timm:x --out out --data.name semi",
    "slurm": "digits --nodes 1 --gpus-per-node 1",
    "tables": "",
    "train": "digits",
}
# Those whose settings are looked at in tests/test_ranges.py, all values of all of them.
OF_RECIPES = ("detect train", "pseudo iterate", "slurm", "train")
OWN = ("processes", "gpus", "max-restarts", "nodes", "gpus-per-node", "iterations", "ratio", "shard-size")
NUMBERS_OF_COMMANDS = {
    *OWN,
    "batch",
    "channels",
    "max-bytes",
    "shuffle",
    "num-workers",
    "time-limit",
    "seeds",
}
NUMBER = re.compile(r"^.? ?--([a-z][\w.-]*) (.*?(?:INT|FLOAT)\S*)", re.MULTILINE)


def numbers_of(capsys, command):
    """The options that take numbers, with what the help shows of their values."""
    words = ARGUMENTS[command].split() if command not in OF_RECIPES else ARGUMENTS[command].split()[:1]
    text = printed(capsys, *command.split(), *words, "--help")
    return {option: values for option, values in NUMBER.findall(text) if option != "model.overrides"}


def refusal(capsys, command, *argv):
    """What a command says when its arguments are parsed; None where it would go to work."""
    file, _ = commands()[command]
    function = getattr(import_module(f"lambdanets.cli.{file}"), command.split()[-1])
    try:
        call(wraps(function)(lambda *_, **__: 0), [*ARGUMENTS[command].split(), *argv], command)
    except SystemExit as stop:
        assert stop.code == 2
        return capsys.readouterr().err
    except (ArgumentError, ArgumentTypeError) as error:
        return str(error)
    return None


def check(capsys, command, option, words):
    refusals = [refusal(capsys, command, f"--{option}={word}") for word in words]
    name = option.rpartition(".")[2].replace("-", "[-_]")
    for text in refusals:
        assert text is None or re.search(name, text.replace("\n", " ")), text
        assert "Traceback" not in (text or "")
    return [text is None for text in refusals]


@pytest.mark.parametrize("command", ARGUMENTS)
def test_the_help_shows_the_range_of_every_number(command, capsys):
    found = numbers_of(capsys, command)
    assert found and all("<" in values for values in found.values()), found


def test_every_command_that_takes_numbers_is_here():
    without = {"completion", "compare", "data index", "figure", "models", "recipes", "report"}
    # Its words become those of `train`; sizes are texts.
    assert commands().keys() == ARGUMENTS.keys() | without | {"pseudo train", "info"}


@pytest.mark.parametrize("command", ["bench", "data shard", "eval", "slurm", "tables"])
def test_a_hostile_number_is_refused_by_its_name(command, capsys):
    for option in numbers_of(capsys, command).keys() & NUMBERS_OF_COMMANDS:
        assert check(capsys, command, option, ("nan", str(2**64))) == [False, False]


@pytest.mark.slow
@pytest.mark.parametrize("command", ARGUMENTS)
def test_every_hostile_number_is_refused_by_its_name(command, capsys):
    options = numbers_of(capsys, command).keys()
    if command in OF_RECIPES and command != "train":
        # One record holds them.
        options -= numbers_of(capsys, "train").keys() - {*OWN}
    for option in options:
        of_recipe = command in OF_RECIPES and option not in OWN
        taken = check(capsys, command, option, ("nan", "1e300") if of_recipe else WORDS)
        assert sum(taken) <= 3, (option, taken)


SAID = {
    "info resnet50 --size 1000000": "info: size must be at most 16,383, got 1000000.",
    f"info resnet50 --size {'9' * 5000}": "info: size must be at most 16,383, got 999999999.",
    "info resnet50 --size 0": "info: size must be up to 2 positive numbers",
    "info resnet50 --overrides widths 1": "ResNetConfig: widths must be a list of int, got 1.",
    "bench ops --explain 100000": "bench: size must be at most 16,383, got 100000.",
    "bench ops --explain 8 --scope=-1": "bench: scope must be up to 3 positive numbers",
    f"train digits --seed {2**64}": "train: seed must be at most 9,223,372,036,854,775,807, got 18446744",
    "train digits --sched.epochs 1000001": "SchedConfig: epochs must be at most 1,000,000, got 1000001.",
    "eval runs --batch 0": "lambdanets eval: batch must be at least 1, got 0.",
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("line", SAID, ids=range(len(SAID)))
def test_a_command_says_what_is_out_of_range(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert SAID[line] in refused(capsys, *line.split())
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_ends_of_ranges_are_planned(tmp_path, monkeypatch, capsys):
    """A dry run computes steps, rates, memory and disk of them."""
    monkeypatch.chdir(tmp_path)
    extremes = (
        "--seed 9223372036854775807 --sched.epochs 1000000 --optim.learning-rate 1e6 --ckpt.keep 1000000"
        " --global-batch-size 1000000 --optim.base-batch-size 1 --optim.layer-decay 5e-324"
    )
    assert run(["train", "digits", "--dry-run", *extremes.split()]) == 0
    assert "1,000,000 = 1,000,000 epochs × 1 step" in capsys.readouterr().out
