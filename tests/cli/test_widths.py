"""What commands print fits the terminal, whatever its width, and is whole where there is none."""

import re
from pathlib import Path

import pytest

from support.commands import printed

RUN = Path(__file__).resolve().parents[1] / "golden" / "run"
WIDTHS = (60, 80, 120)
LINES = [
    "--help",
    "data --help",
    "models",
    "recipes",
    "train",
    "detect train --help",
    "info lambda_resnet_digits --size 8",
    "bench ops --explain 28x28",
    "tables 1",
    "doctor",
    "train digits --dry-run --gpus 8",
    f"compare {RUN}",
]


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line.split()[:2]))
def test_no_line_is_longer_than_the_terminal(line, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        lines = re.sub(r"\x1b\[[0-9;]*m", "", printed(capsys, *line.split())).splitlines()
        assert lines and max(map(len, lines)) <= width


def test_nothing_is_folded_without_a_terminal(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    text = printed(capsys, "recipes", "imagenet*")
    assert len(text.splitlines()) == int(text.split()[-2]) + 1
    assert "  detect eval     Evaluate a detector on its test images: average precision, kinds of" in printed(
        capsys, "--help"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("models", "resnet50"), "1 model"),
        (("recipes", "digits"), "1 recipe"),
    ],
)
def test_lists_count_what_they_list(words, line, capsys):
    assert printed(capsys, *words).splitlines()[-1] == line
