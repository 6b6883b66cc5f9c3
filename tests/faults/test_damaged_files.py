"""Every file of a run, damaged in every way: the truth at exit 0, or a documented code and one sentence."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from lambdanets.cli import run as command
from lambdanets.runs import train as job
from lambdanets.runs.run_page import show_run
from support.damage import DAMAGES, within
from support.tiny_run import SETTINGS as TINY
from support.tiny_run import tiny_task

pytestmark = pytest.mark.usefixtures("few_digits", "no_figures")

NEWEST = "checkpoints/step-00000006"
SETTINGS = (
    *("--num-threads", "1", "--global-batch-size", "64", "--sched.epochs", "3", "--sched.warmup-epochs", "1"),
    *("--ckpt.every-epochs", "1", "--exec.device", "cpu", "--model.name", "resnet_digits"),
)
FILES = (
    *("config.json", "metrics.jsonl", "best.safetensors", "best.json", ".lock", "train.log"),
    *(f"{NEWEST}/{name}.safetensors" for name in ("model", "ema", "optimizer")),
    *(f"{NEWEST}/{name}.json" for name in ("manifest", "state")),
)
COMMANDS = {
    "best": lambda path: ("eval", path, "--json"),
    "ema": lambda path: ("eval", path, "--weights", "ema", "--json"),
    "compare": lambda path: ("compare", path, "--json"),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, few_digits):
    """A run that was stopped after the second of its three epochs."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdanets.runs.report.draw_figures", lambda *_, **__: [])
        assert command(["train", "digits", "--out", str(path), *SETTINGS]) == 0
    shutil.rmtree(path / "checkpoints/step-00000009")
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:2]))
    (path / "report.md").unlink()
    return path


def _ask(name, path, capsys):
    """The exit code of a command, what it prints without what differs from call to call, and its message."""
    with within(20):
        code = command([str(word) for word in COMMANDS[name](path)])
    printed = capsys.readouterr()
    found = json.loads(printed.out) if code == 0 else None
    return code, json.dumps(_without_chance(found)), printed.err


def _without_chance(value):
    if isinstance(value, dict):
        return {
            name: _without_chance(one)
            for name, one in value.items()
            if name not in ("seconds", "images_per_s", "warnings", "unreadable")
            and not name.startswith("path")
        }
    return [*map(_without_chance, value)] if isinstance(value, list) else value


def every_third(files):
    """Each file and damage; the slow tests take a third, in which each of both is, and others the rest."""
    return [
        pytest.param(
            file, damage, marks=pytest.mark.exhaustive if (number + column) % 3 else pytest.mark.slow
        )
        for number, file in enumerate(files)
        for column, damage in enumerate(DAMAGES)
    ]


READ_BY = {
    "best": ("config.json", "best.safetensors", "best.json"),
    "ema": ("config.json", "metrics.jsonl", *(name for name in FILES if name.startswith(NEWEST))),
    "compare": ("config.json", "metrics.jsonl", "best.json"),
}


@pytest.fixture
def copy(stopped, tmp_path):
    """A run to damage, at the same path for each command."""
    return shutil.copytree(stopped, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        pytest.param(name, *case.values, marks=() if name == "compare" else case.marks)
        for name, files in READ_BY.items()
        for case in every_third(files)
    ],
)
def test_a_run_is_read_as_it_was_or_refused(copy, capsys, name, file, damage):
    code, whole, _ = _ask(name, copy, capsys)
    assert code == 0
    DAMAGES[damage](copy / file)
    code, found, message = _ask(name, copy, capsys)
    assert "Traceback" not in message
    if code:
        assert code in (2, 5) and len(message.splitlines()) == 1, (code, message)
    elif file.startswith(NEWEST):
        # The checkpoint before.
        assert json.loads(found)["step"] == 3
    elif json.loads(found).get("epoch", 0) is None:
        # The weights do not say their epoch: the lines that do look like one that a kill cut short.
        assert file == "metrics.jsonl" and json.loads(found) == {**json.loads(whole), "epoch": None}
    else:
        assert found == whole


@pytest.mark.parametrize(
    ("file", "damage"),
    every_third(
        ["config.json", "metrics.jsonl", "best.json", "best.safetensors", "confusion.json", "train.log"]
    ),
)
def test_a_page_says_what_it_cannot_show(copy, file, damage):
    (copy / "confusion.json").write_text('{"labels": ["a", "b"], "entries": [[0, 0, 3], [1, 0, 2]]}')
    whole = show_run(copy)
    assert whole.problem.startswith("Unfinished") and len(whole.figures) == 2
    DAMAGES[damage](copy / file)
    with within(20):
        found = show_run(copy)
    if found.problem == whole.problem:
        assert (found.rows, found.settings, found.classes) == (whole.rows, whole.settings, whole.classes)
    else:
        assert found.problem.startswith(("It cannot be shown: ", "No epoch is done"))
        assert len(found.problem.splitlines()) == 1


def _train_tiny(path, epochs, monkeypatch):
    monkeypatch.setattr(job, "load_task", lambda config: tiny_task())
    with within(20):
        return command(["train", "digits", "--out", str(path), *TINY, "--sched.epochs", str(epochs)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An undisturbed tiny run of three epochs, and the same stopped after the second."""
    whole, part = (tmp_path_factory.mktemp("tiny") / name for name in ("whole", "part"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambdanets.runs.report.draw_figures", lambda *_, **__: [])
        assert _train_tiny(whole, 3, patch) == 0
    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints/step-00000012")
    lines = (part / "metrics.jsonl").read_text().splitlines(keepends=True)
    (part / "metrics.jsonl").write_text("".join(lines[:2]))
    (part / "report.md").unlink()
    return whole, part


TINY_NEWEST = "checkpoints/step-00000008"
TINY_FILES = [name.replace(NEWEST, TINY_NEWEST) for name in FILES]


@pytest.mark.parametrize(("file", "damage"), every_third(TINY_FILES))
def test_a_run_goes_on_to_the_same_weights_or_is_refused(tiny, tmp_path, monkeypatch, capsys, file, damage):
    whole, part = tiny
    path = shutil.copytree(part, tmp_path / "run")
    DAMAGES[damage](path / file)
    code = _train_tiny(path, 3, monkeypatch)
    message = capsys.readouterr().err
    assert "Traceback" not in message
    if code:
        assert code in (2, 5, 7) and len(message.splitlines()) <= 2, (code, message)
        assert not file.startswith(TINY_NEWEST)
    else:
        _assert_same_weights(path, whole)


def _assert_same_weights(path, whole):
    for name in ("model", "ema", "optimizer"):
        ours, theirs = (
            load_file(one / "checkpoints/step-00000012" / f"{name}.safetensors") for one in (path, whole)
        )
        assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)
