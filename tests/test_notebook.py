"""In a notebook a run has one bar that is drawn anew; elsewhere there is none."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lambdanets import notebook
from lambdanets.notebook import notebook_bar
from lambdanets.terminal import Progress


class Cell:
    """The output of a cell, as IPython's display fills it."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, content: dict[str, str], **options: Any) -> "Cell":
        assert options == {"raw": True, "display_id": True}
        self.shown.append(content)
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(content)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    found = Cell()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=found.display))  # type: ignore[arg-type]
    return found


def test_a_bar_is_drawn_anew_in_its_place(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    bar = notebook_bar()
    assert bar is not None
    for step in range(1, 101):
        now[0] += 0.1
        bar.show("epoch 1", step / 100, "step <1>")
    # Ten seconds: at most four drawings in each.
    assert 20 <= len(cell.shown) <= 40
    assert cell.shown[0]["text/plain"] == f"epoch 1 {'░' * 30} 1%\nstep <1>"
    assert "step &lt;1&gt;" in cell.shown[0]["text/html"]
    bar.clear()
    assert cell.shown[-1] == {"text/plain": "", "text/html": ""}


def test_progress_in_a_notebook_prints_no_further_lines(
    cell: Cell, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("training", 10, lambda: "well") as progress:
        progress.update(5)
        progress.print("a line")
    assert cell.shown[0]["text/plain"] == f"training {'█' * 15}{'░' * 15} 50%\nwell"
    assert cell.shown[-1]["text/plain"] == ""
    assert capsys.readouterr().out == "a line\n"


def test_there_is_no_bar_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_bar() is None
    # IPython in a terminal.
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))  # type: ignore[arg-type]
    assert notebook_bar() is None
