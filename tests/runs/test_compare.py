"""Runs side by side: seeds of one recipe together, JSON, and columns that a terminal has room for."""

import json
import statistics
from pathlib import Path

import pytest

from lambdanets.cli import compare as command
from lambdanets.cli import run
from lambdanets.data.config import AugmentConfig, FolderConfig
from lambdanets.errors import CheckpointError
from lambdanets.recipes import get_recipe
from lambdanets.runs.compare import RunSummary, differences_of, seeds_of, setting_text, summarize
from support.run_folders import written_run

CORRECT = {0: 494, 1: 495, 2: 493}


@pytest.fixture
def seeds(tmp_path):
    return [written_run(tmp_path / f"digits-{seed}", seed, correct) for seed, correct in CORRECT.items()]


def test_a_summary_reads_the_folder(seeds):
    found = summarize(seeds[0])
    assert (found.recipe, found.model, found.epochs) == ("digits", "lambda_resnet_digits", (25, 25))
    assert (found.correct, found.total, found.best_correct, found.top5_correct) == (494, 500, 494, 499)
    assert found.images_per_s == pytest.approx(1297 / 2)


def test_seeds_of_one_recipe_are_put_together(seeds, tmp_path):
    others = [
        written_run(tmp_path / "twin", 0, 496, name="digits-conv"),
        written_run(tmp_path / "hot", 3, 490, global_batch_size=32),
        written_run(tmp_path / "unfinished", 4, 400, epochs=3),
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
        "\ndigits (lambda_resnet_digits), seeds 0, 1, 2:\n"
        "  accuracy  98.80% ± 0.20% (n=3)  lowest 98.60%  highest 99.00%\n"
    )
    rows = {line.partition("  ")[0]: line.split()[-3:] for line in text.splitlines()}
    assert rows["seed"] == ["0", "1", "2"] and rows["top-5"] == ["99.80%"] * 3
    # Where only the seed differs, there is no other setting to show.
    assert list(rows)[-4:-1] == ["training time", "training images/s", ""]


def test_settings_that_differ_are_shown_and_no_others(seeds, tmp_path, capsys):
    hot = written_run(tmp_path / "hot", 0, 490, global_batch_size=32, augment=AugmentConfig(mixup=0.2))
    assert run(["compare", str(seeds[0]), str(hot)]) == 0
    rows = {line.partition("  ")[0]: line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    names = list(rows)
    assert names[names.index("training images/s") + 1 :] == ["global_batch_size", "augment.mixup"]
    assert rows["global_batch_size"] == ["64", "32"] and rows["augment.mixup"] == ["0.0", "0.2"]
    assert setting_text(()) == setting_text({}) == setting_text(None) == "none"
    assert (setting_text((0.5, 0.7)), setting_text({"a": 1})) == ("0.5 0.7", "a 1")


def test_two_groups_of_seeds_have_a_difference_with_its_error(seeds, tmp_path, capsys):
    twins = [
        written_run(tmp_path / f"conv-{seed}", seed, 480 + 4 * seed, name="digits-conv") for seed in (0, 1)
    ]
    (one,) = differences_of(seeds_of([summarize(folder) for folder in (*seeds, *twins)]))
    assert one.mean == pytest.approx(494 / 500 - 482 / 500)
    assert one.standard_error == pytest.approx(((0.002**2) / 3 + (2 * (0.004**2)) / 2) ** 0.5)
    assert run(["compare", *map(str, (*seeds, *twins))]) == 0
    assert capsys.readouterr().out.endswith("\ndigits less digits-conv: +2.40 points, standard error 0.42\n")
    assert run(["compare", *map(str, (*seeds, *twins)), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert found["second"] == list(map(str, twins)) and found["accuracy_difference"] == pytest.approx(0.024)


def test_ema_and_raw_weights_are_both_shown(tmp_path, capsys):
    data = FolderConfig(root="photos", holdout=0.1)
    runs = [
        written_run(tmp_path / str(seed), seed, 480, "imagenet-90ep-small", 3, raw=490 + seed, data=data)
        for seed in (0, 1)
    ]
    assert run(["compare", *map(str, runs)]) == 0
    text = capsys.readouterr().out
    rows = {line.partition("  ")[0]: line for line in text.splitlines()}
    assert rows["evaluated on"].split("  ")[-1].strip() == "validation, 500 images"
    assert rows["last epoch, EMA"].split()[-2:] == ["96.00%", "96.00%"]
    assert rows["last epoch, raw"].split()[-2:] == ["98.00%", "98.20%"]
    assert rows["best epoch (same images)"].split()[-1] == "98.20%"
    assert "raw 98.10% ± 0.14% (n=2) lowest 98.00% highest 98.20%" in " ".join(text.split())


def test_as_json(seeds, capsys):
    assert run(["compare", *map(str, seeds), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"runs", "settings", "seeds", "differences"}
    assert found["settings"] == {"seed": [0, 1, 2]} and found["differences"] == []
    assert set(found["runs"][0]) == {
        *("run", "recipe", "model", "seed", "epochs", "planned_epochs", "accuracy", "correct", "total"),
        *("evaluated_on", "raw_accuracy", "raw_correct"),
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
    assert capsys.readouterr().out.count("last epoch") == 3


def test_metrics_that_were_cut_short(seeds):
    (seeds[0] / "metrics.jsonl").write_text('{"epoch": 1, "step": 21}\n')
    with pytest.raises(CheckpointError, match=r"must hold whole metrics\.jsonl and best\.json, got"):
        summarize(seeds[0])
