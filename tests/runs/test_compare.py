"""Runs side by side: seeds of one recipe together, JSON, and columns that a terminal has room for."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.cli import compare as command
from lambdanets.cli import run
from lambdanets.errors import CheckpointError
from lambdanets.recipes import get_recipe
from lambdanets.runs.compare import RunSummary, seeds_of, summarize

CORRECT = {0: 494, 1: 495, 2: 493}


def _run(folder, seed, correct, name="digits", epochs=25, **changes):
    """A run folder as training leaves it, without training."""
    config = replace(get_recipe(name), seed=seed, **changes)
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    records = [
        {
            "epoch": epoch,
            "step": 21 * epoch,
            "test_correct": correct - (epochs - epoch),
            "test_total": 500,
            "test_top5_correct": 499,
            "train_total": 1297,
            "seconds": 2.0 * epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "best.json").write_text(json.dumps({"parameters": 36234}))
    return folder


@pytest.fixture
def seeds(tmp_path):
    return [_run(tmp_path / f"digits-{seed}", seed, correct) for seed, correct in CORRECT.items()]


def test_a_summary_reads_the_folder(seeds):
    found = summarize(seeds[0])
    assert (found.recipe, found.model, found.epochs) == ("digits", "lambda_resnet_digits", (25, 25))
    assert (found.correct, found.total, found.best_correct, found.top5_correct) == (494, 500, 494, 499)
    assert found.images_per_s == pytest.approx(1297 / 2)


def test_seeds_of_one_recipe_are_put_together(seeds, tmp_path):
    others = [
        _run(tmp_path / "twin", 0, 496, name="digits-conv"),
        _run(tmp_path / "hot", 3, 490, global_batch_size=32),
        _run(tmp_path / "unfinished", 4, 400, epochs=3),
        seeds[0],
    ]
    (group,) = seeds_of([summarize(run) for run in (seeds[2], *others, *seeds[:2])])
    assert [run.config.seed for run in group.runs] == [0, 1, 2]
    shares = [correct / 500 for correct in CORRECT.values()]
    assert group.mean == pytest.approx(statistics.mean(shares))
    assert group.std == pytest.approx((2 * 0.002**2 / 2) ** 0.5)


def test_the_command_gives_mean_and_spread(seeds, capsys):
    assert run(["compare", *map(str, seeds)]) == 0
    text = capsys.readouterr().out
    assert text.endswith(
        "\ndigits with seeds 0, 1, 2:\n  mean 98.80%, standard deviation 0.20%, from 98.60% to 99.00%\n"
    )
    rows = {line.partition("  ")[0]: line.split()[-3:] for line in text.splitlines()}
    assert rows["seed"] == ["0", "1", "2"] and rows["top-5"] == ["99.80%"] * 3


def test_as_json(seeds, capsys):
    assert run(["compare", *map(str, seeds), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"runs", "seeds"}
    assert set(found["runs"][0]) == {
        *("run", "recipe", "model", "seed", "epochs", "planned_epochs", "accuracy", "correct", "total"),
        *("best_correct", "top5_correct", "parameters", "seconds", "images_per_s"),
    }
    (group,) = found["seeds"]
    assert group["seeds"] == [0, 1, 2] and group["accuracy_mean"] == pytest.approx(0.988)
    assert group["accuracy_std"] == pytest.approx(0.002)
    assert (group["accuracy_lowest"], group["accuracy_highest"]) == (0.986, 0.99)
    assert run(["compare", str(seeds[0]), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == []


def _summaries(num):
    return [
        RunSummary(
            path=Path(f"runs/{'x' * 12}-{index}"),
            config=get_recipe("digits"),
            epochs=(25, 25),
            correct=495,
            total=500,
            best_correct=496,
            parameters=36234,
            seconds=40.0,
            images_per_s=800.0,
        )
        for index in range(num)
    ]


def test_columns_go_below_where_a_terminal_has_no_room():
    columns = [command._column(summary) for summary in _summaries(5)]
    blocks = list(command._blocks(columns, 80))
    assert [block.splitlines()[0].count("runs/") for block in blocks] == [2, 2, 1]
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 80
    assert all(block.splitlines()[0].startswith("run ") for block in blocks)
    # A row that no run has anything for is left out.
    assert "top-5" not in blocks[0]
    assert len(list(command._blocks(columns, None))) == 1
    assert len(list(command._blocks(columns, 10))) == 5


def test_a_terminal_is_asked_for_its_width(seeds, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["compare", *map(str, seeds)]) == 0
    assert capsys.readouterr().out.count("accuracy, last epoch") == 3


def test_metrics_that_were_cut_short(seeds):
    (seeds[0] / "metrics.jsonl").write_text('{"epoch": 1, "step": 21}\n')
    with pytest.raises(CheckpointError, match=r"must hold whole metrics\.jsonl and best\.json, got"):
        summarize(seeds[0])
