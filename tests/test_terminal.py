"""Tables and progress: aligned text, plain lines where there is no terminal."""

import sys

import pytest

from lambdanets import terminal
from lambdanets.terminal import Progress, count, counting, format_bytes, format_duration, pairs, table


def test_columns_of_numbers_are_aligned_to_the_right():
    rows = [("cat", "9.5%", 900, "dog (3)"), ("dormouse", "12.25%", "none", "")]
    assert table(("class", "accuracy", "images", "confused with"), rows).splitlines() == [
        "class     accuracy  images  confused with",
        "cat           9.5%     900  dog (3)",
        "dormouse    12.25%    none",
    ]


def test_long_cells_are_folded_only_where_there_is_a_width():
    text = "one two " * 40
    assert table(None, [("name", text.strip())]).splitlines() == [f"name  {text.strip()}"]
    lines = pairs({"name": text, "x": "[y]"}, width=50, indent=2).splitlines()
    assert lines[0].startswith("  name  one two") and lines[1].startswith("        one two")
    assert lines[-1] == "  x     [y]" and max(map(len, lines)) <= 50


@pytest.mark.parametrize(
    ("num", "noun", "text"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1, "class", "1 class"),
        (1200, "class", "1,200 classes"),
        (2, "category", "2 categories"),
        (2, "key", "2 keys"),
        (2, "batch", "2 batches"),
        (1.0, "epoch", "1 epoch"),
        (0.5, "epoch", "0.5 epochs"),
    ],
)
def test_one_of_a_kind_is_singular(num, noun, text):
    assert count(num, noun) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (185.0, "3 min 05 s"), (7800.0, "2 h 10 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (17, "17 B"),
        (1234, "1.23 kB"),
        (999_600, "1 MB"),
        (312_200_000, "312 MB"),
        (1_234_000_000_000, "1,234 GB"),
    ],
)
def test_sizes(size, text):
    assert format_bytes(size) == text


def test_lines_where_there_is_no_terminal(capsys, monkeypatch):
    with counting("decoding train", 2000) as show:
        show(1)
        monkeypatch.setattr(terminal, "_PATIENCE", -1.0)
        show(1500)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("decoding train · 1,500 of 2,000 · ") and printed.err.endswith("/s\n")
    assert printed.err.count("\n") == 1


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with counting("indexing", 4) as show:
        show(3)
    printed = capsys.readouterr()
    assert printed.out == "" and "indexing" in printed.err and "3 of 4" in printed.err


def test_lines_are_logged_and_a_reader_may_leave(capsys, monkeypatch):
    lines = []
    with Progress("epoch 1", 3, lambda: "loss 1", log=lines.append) as progress:
        progress.print("first")
        monkeypatch.setattr(terminal, "_PATIENCE", -1.0)
        progress.update(2)
    assert lines == ["first", "epoch 1 · loss 1"] == capsys.readouterr().out.splitlines()

    class Gone:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Gone())
    progress.print("more")
    progress.print("and more")
    assert lines[-2:] == ["more", "and more"]
