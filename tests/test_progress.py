"""Progress of countings: plain lines now and then, on the error output alone."""

from lambdanets import progress as module
from lambdanets.progress import counting


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    with counting("decoding train", 2000) as show:
        show(1)
        monkeypatch.setattr(module, "_PATIENCE", -1.0)
        show(1500)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("decoding train: 1,500 of 2,000 · ") and printed.err.endswith("/s\n")
    assert printed.err.count("\n") == 1


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with counting("indexing", 4) as show:
        show(3)
    printed = capsys.readouterr()
    assert printed.out == "" and "indexing" in printed.err and "3 of 4" in printed.err
