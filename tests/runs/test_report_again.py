"""A figure or report that fails is a warning; `lambdanets report RUN` makes it again."""

import errno

import pytest

from lambdanets.cli import run
from lambdanets.runs import report
from lambdanets.runs import train as job
from support.tiny_run import SETTINGS, tiny_task

FIGURES = ("curves.png", "confusion.png")


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(job, "load_task", lambda config: tiny_task())
    folder = tmp_path / "run"

    def trained():
        code = run(["train", "digits", "--out", str(folder), *SETTINGS])
        return code, capsys.readouterr()

    return folder, trained


def fail(error):
    def draw(*_, **__):
        raise error

    return draw


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("draw_confusion", ValueError("Expected \\frac{num}{den}"), "Expected \\frac{num}{den}"),
        ("save_figure", OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)
def test_a_figure_that_fails_is_a_warning_and_is_made_again(train, monkeypatch, capsys, place, error, said):
    folder, trained = train
    with monkeypatch.context() as patch:
        patch.setattr(report, place, fail(error))
        code, printed = trained()
    lost = {"draw_confusion": FIGURES[1:]}.get(place, FIGURES)
    assert code == 0
    for name in FIGURES:
        assert (folder / name).exists() == (name not in lost)
    for name in lost:
        assert f"warning: {name} could not be made: " in printed.out and said in printed.out
        assert f"![{name.removesuffix('.png')}]" not in (folder / "report.md").read_text()
    assert f"lambdanets report {folder}" in printed.out and "Traceback" not in printed.err
    weights = (folder / "best.safetensors").read_bytes()
    assert run(["report", str(folder)]) == 0
    assert "accuracy" in capsys.readouterr().out
    page = (folder / "report.md").read_text()
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in FIGURES)
    assert "![curves](curves.png)" in page and f"lambdanets train digits --out {folder}" in page
    assert (folder / "best.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_a_report_that_fails_is_a_warning_and_is_made_again(train, monkeypatch, capsys):
    folder, trained = train
    with monkeypatch.context() as patch:
        patch.setattr(report, "_render", fail(RuntimeError("no such template")))
        code, printed = trained()
    assert code == 0 and not (folder / "report.md").exists()
    assert f"no such template. Make it again: lambdanets report {folder}" in printed.out
    assert run(["report", str(folder), "--json"]) == 0
    assert (folder / "report.md").is_file() and '"path": null' in capsys.readouterr().out
    code, printed = trained()
    assert code == 0 and "is already finished" in printed.out


def test_a_report_is_of_a_finished_run(train, monkeypatch, capsys):
    folder, trained = train
    assert run(["report", str(folder)]) == 2
    monkeypatch.setattr(job, "_fit", fail(KeyboardInterrupt()))
    assert trained()[0] == 130
    assert run(["report", str(folder)]) == 2
    assert "must hold a checkpoint, got none" in capsys.readouterr().err
