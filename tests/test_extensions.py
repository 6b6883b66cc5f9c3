"""`--import` makes recipes and data sets of one's own known to every command."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdanets.cli import run
from lambdanets.data.config import DATA_SETS
from support import bars
from support.commands import refused

pytestmark = pytest.mark.usefixtures("no_figures")

# What a user writes: a module that defines a data set and a recipe, and registers both.
BARS = f"""{Path(bars.__file__).read_text()}

lambdanets.register_data_set(BarsConfig)


@lambdanets.register_recipe
def bars() -> lambdanets.TrainConfig:
    '''Bars in two epochs.'''
    return bars_config()
"""


@pytest.fixture(autouse=True)
def _own_folder(as_registered: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Work in a folder of its own, and forget what was imported from it."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bars_data.py").write_text(BARS)
    yield
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "argv",
    [
        ["recipes", "bars", "--import", "bars_data"],
        ["--import=bars_data.py", "recipes", "bars"],
        ["recipes", "--import", "./bars_data.py", "bars", "--import", "json"],
    ],
    ids=lambda argv: argv[1],
)
def test_it_stands_anywhere_on_the_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 0
    assert "Bars in two epochs." in capsys.readouterr().out


def test_settings_of_the_data_set_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "digits", "--data.name", "bars", "--help", "--import", "bars_data"]) == 0
    help_text = capsys.readouterr().out
    assert "--data.length" in help_text
    assert "Pixels of a bar" in help_text


def test_a_run_is_trained_and_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "bars", "--import", "bars_data", "--data.length", "4", "--out", "run"]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["data"] == {"name": "bars", "length": 4}
    assert config["imports"] == ["bars_data"]
    command = "lambdanets train bars --data.length 4 --out run --import bars_data"
    assert command in (tmp_path / "run/report.md").read_text()
    # The same command continues, which here means that it is done.
    capsys.readouterr()
    assert run(["train", "bars", "--import", "bars_data", "--data.length", "4", "--out", "run"]) == 0
    assert "already finished" in capsys.readouterr().out


def test_a_run_whose_data_set_is_not_imported_says_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "bars", "--import", "./bars_data.py", "--out", "run"]) == 0
    del DATA_SETS["bars"]
    capsys.readouterr()
    assert run(["eval", "run"]) == 3
    assert (
        "data set 'bars' must be registered, got none of that name. It comes from a module of your own: add"
        f" --import {tmp_path}/bars_data.py, or import that module first in Python."
    ) in capsys.readouterr().err
    assert run(["train", "digits", "--data.name", "bars"]) == 2
    assert "own is known after --import MODULE" in capsys.readouterr().err


@pytest.mark.slow
def test_it_reaches_the_processes_of_a_run(tmp_path: Path) -> None:
    words = ["--import", "bars_data.py", "--processes", "2", "--exec.num-workers", "1", "--out", "run"]
    assert run(["train", "bars", *words]) == 0
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2
    assert f"--import {tmp_path}/bars_data.py" in (tmp_path / "run/report.md").read_text()


@pytest.mark.parametrize("named", ["bars_dat", "nowhere.bars_data"])
def test_a_module_that_is_not_there(named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near = " Closest: bars_data." if named == "bars_dat" else ""
    assert (
        f"--import: {named} must be a module in {tmp_path} or an installed one, got none.{near}"
        in refused(capsys, "recipes", "--import", named)
    )


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    message = "--import: lost/bars.py must be a file or the name of a module, got none."
    assert message in refused(capsys, "recipes", "--import", "lost/bars.py")


@pytest.mark.parametrize("words", [["--import"], ["--import", "--format", "text"]])
def test_a_name_must_follow(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--import: a module or a .py file must follow, got " in refused(capsys, "recipes", *words)


@pytest.mark.parametrize("name", ["json.py", "sys.py"])
def test_a_file_with_the_name_of_another_module(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("")
    message = f"--import: the name of the file must not be that of another module, got {name} beside "
    assert message in refused(capsys, "recipes", "--import", name)


def test_a_file_whose_name_is_no_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my-data.py").write_text("")
    message = (
        "--import: the name of the file must be a word of letters, digits and underscores, got my-data.py"
    )
    assert message in refused(capsys, "recipes", "--import", "my-data.py")


FAULTS = {
    "1 / 0": "ZeroDivisionError: division by zero",
    "import not_there": "ModuleNotFoundError: No module named 'not_there'",
    "def broken(:": "SyntaxError: ",
    "raise SystemExit(3)": "SystemExit: 3",
}


@pytest.mark.parametrize("code", FAULTS)
def test_an_error_inside_shows_the_traceback_of_its_author(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faulty.py").write_text(f"\n{code}\n")
    assert run(["recipes", "--import", "faulty"]) == 2
    err = capsys.readouterr().err
    assert "--import: faulty must be imported without an error, got\n" in err
    assert f'File "{tmp_path}/faulty.py", line 2' in err
    assert FAULTS[code] in err
    # Nothing of ours, and nothing of Python's machinery.
    assert "importlib" not in err
    assert "extensions.py" not in err
