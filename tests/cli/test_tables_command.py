"""`lambdanets tables` and `figure`: what they print, and one sentence for each mistake."""

import csv
import io
import json
from pathlib import Path

import pytest

from lambdanets.cli import run
from lambdanets.paper import measure, train
from lambdanets.paper.results import _read_results, append_result
from lambdanets.paper.tables import NUMBERS
from support.tables import measured, trained


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(words) == 0
    return capsys.readouterr().out


def test_several_tables_in_the_order_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "tables", "12", "2")
    assert text.index("Table 12. ") < text.index("Table 2. ")
    line = next(line for line in text.splitlines() if line.startswith("C-C-L-L"))
    assert line.split()[:5] == ["C-C-L-L", "15.4", "15.560", "counted", "≠"]


def test_results_are_merged_from_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    for result in (
        measured(7.0),
        measured(9.0, machine="Other"),
        trained(),
        trained((50.0,), dataset="relation"),
    ):
        append_result(Path("kept"), result)
    assert "measured" not in printed(capsys, "tables", "12")
    rows = list(
        csv.DictReader(io.StringIO(printed(capsys, "tables", "12", "--results", "kept", "--format", "csv")))
    )
    ours = {(row["quantity"], row["ours"]) for row in rows if row["row"] == "C-C-C-C"}
    assert {("top1", "98.5"), ("top1", "50.0")} < ours
    assert len([place for place in ours if place[0] == "inference_images_per_s"]) == 1
    text = printed(capsys, "tables", "12", "--results", "kept", "--machine", "all")
    assert "measured on Chip" in text and "measured on Other" in text
    text = printed(capsys, "tables", "12", "--results", "kept", "--machine", "other")
    assert "measured on Chip" not in text and "measured on Other" in text


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = json.loads(printed(capsys, "tables", "7", "--format", "json"))
    assert table["table"] == 7
    assert printed(capsys, "tables", "7", "--format", "markdown").startswith("### Table 7. ")


def test_nothing_is_cut_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = printed(capsys, "tables", "4")
    assert max(map(len, text.splitlines())) > 150
    assert "…" not in text


def test_measuring_stores_and_then_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {}

    def fake(numbers, *, log, **options):
        given.update(numbers=list(numbers), **options)
        log("at work")
        yield measured(7.5)

    monkeypatch.setattr(measure, "measure_tables", fake)
    words = ("--measure", "--batch", "2", "--time-limit", "9", "--rows", "C*", "--results", "kept")
    assert run(("tables", "12", *words)) == 0
    captured = capsys.readouterr()
    assert captured.err == "at work\n"
    assert "7.50  measured on Chip, 2 cores, batch 8, float32" in captured.out
    assert given == {"numbers": [12], "batch": 2, "time_limit_s": 9.0, "rows": "C*"}
    assert _read_results(Path("kept")) == (measured(7.5),)


def test_training_stores_and_then_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(numbers, dataset, seeds, **options):
        assert (list(numbers), dataset, list(seeds)) == ([12], "digits", [0, 1])
        assert options["runs"] == Path("runs/tables") and options["num_processes"] is None
        yield trained()

    monkeypatch.setattr(train, "train_tables", fake)
    text = printed(capsys, "tables", "12", "--train", "digits", "--seeds", "2")
    assert "98.5 ± 0.7  trained on digits, 2 seeds" in text
    assert _read_results(Path("results")) == (trained(),)


@pytest.mark.slow
def test_figure_says_where_it_is_and_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "figure", "4", "--out", "speed.png")
    assert text.startswith("Accuracy is the published one") and text.endswith("speed.png\n")
    assert Path("speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_without_a_number_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "tables").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(number) for number in NUMBERS]
    assert lines[8].split()[-4:] == ["16", "32", "16", "counted"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("21",), 2, "tables: number must be from 1 to 20, got 21."),
        (("9", "--seeds", "0", "--train", "digits"), 2, "tables: seeds must be at least 1, got 0."),
        (("12", "--measure", "--batch", "0"), 2, "tables: batch must be at least 1, got 0."),
        (("8", "--measure"), 2, "numbers to measure must be among 3, 4, 5, 12, 13, 18"),
        (("14", "--train", "digits"), 2, "numbers to train must be among 3, 4, 8, 9, 10, 11, 12"),
        (
            ("9", "--train", "cifar"),
            2,
            "(`lambdanets recipes`), a data set or 'scenes', got 'cifar'. A recipe of your own is known",
        ),
        (("9", "--results", "damaged"), 4, "must hold one result a line"),
    ],
)
def test_mistakes_are_named(words, code, message, capsys: pytest.CaptureFixture[str]) -> None:
    Path("damaged").mkdir()
    Path("damaged/table_09.jsonl").write_text("no\n")
    assert run(("tables", *words)) == code
    assert message in capsys.readouterr().err
    assert not Path("results").exists()


def test_another_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("figure", "3")) == 2
    assert "invalid choice '3'" in capsys.readouterr().err
