"""A run of an earlier version is evaluated, predicted with and continued as that version would."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from golden.recorded import GOLDEN, TRAIN, load
from lambdanets.__main__ import main

STORED = load("run.json")
# Sums are rounded differently on other machines. An image may then fall to the other side.
LOSS = {"rel": 1e-3}
IMAGES = {"abs": 1}
SHARE = {"abs": 1.5 / 500}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "run", tmp_path / "run"))


@pytest.fixture
def lambdanets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command line, in this process; gives what it printed."""

    def call(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["lambdanets", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        assert left.value.code == 0, output.err
        return output.out

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_stored_run_continues_to_the_stored_numbers(run: Path, lambdanets: Any) -> None:
    before = records(run)
    lambdanets(*TRAIN, "--out", run)
    after = records(run)
    # With their times: a run that began anew would have others.
    assert after[: len(before)] == before
    assert len(after) == len(before) + len(STORED["epochs"])
    for found, stored in zip(after[len(before) :], STORED["epochs"], strict=True):
        for name, value in stored.items():
            tolerance = LOSS if "loss" in name else IMAGES if "correct" in name else SHARE
            exact = name in ("epoch", "step", "train_total", "test_total")
            assert found[name] == (value if exact else pytest.approx(value, **tolerance)), name


def test_a_stored_run_is_not_continued_with_other_settings(run: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["lambdanets", *TRAIN, "--seed", "1", "--out", str(run)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "seed: 0 -> 1" in capsys.readouterr().err


def test_a_stored_run_is_evaluated_to_the_stored_accuracy(run: Path, lambdanets: Any) -> None:
    found, stored = json.loads(lambdanets("eval", run, "--json", "--device", "cpu")), STORED["eval"]
    for name in ("recipe", "model", "epoch", "step", "total", "image_size"):
        assert found[name] == stored[name], name
    assert found["correct"] == pytest.approx(stored["correct"], **IMAGES)
    assert found["accuracy"] == pytest.approx(stored["accuracy"], **SHARE)
    assert found["top5_correct"] == pytest.approx(stored["top5_correct"], **IMAGES)
    assert found["loss"] == pytest.approx(stored["loss"], rel=1e-5)


def test_a_stored_run_predicts_the_stored_probabilities(run: Path, lambdanets: Any) -> None:
    output = lambdanets("predict", run, GOLDEN / "digit.png", "--format", "json")
    found, stored = json.loads(output)[0]["top"], STORED["predict"]
    assert [row["label"] for row in found] == [row["label"] for row in stored]
    assert [row["probability"] for row in found] == pytest.approx(
        [row["probability"] for row in stored], rel=1e-4, abs=1e-6
    )
