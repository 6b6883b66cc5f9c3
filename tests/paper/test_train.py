"""Small trainings: which network stands for a row, and what a real one leaves."""

from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.errors import ArgumentError
from lambdanets.paper import train
from lambdanets.paper.train import _config_of, _folder_of, train_tables
from lambdanets.published import TABLES, Row
from lambdanets.training.config import SchedConfig, TrainConfig


def overrides(number: int, label: str, dataset: str = "digits") -> dict[str, object] | None:
    (row,) = (row for row in TABLES[number] if row.label == label)
    config = _config_of(row, dataset, 3)
    return None if config is None else {"recipe": config.recipe, **config.model.overrides}


@pytest.mark.parametrize(
    ("number", "label", "expected"),
    [
        (9, "content only", {"recipe": "digits", "positional": False}),
        (9, "position only", {"recipe": "digits", "content": False}),
        (9, "content and position", {"recipe": "digits"}),
        (11, "L2 norm of keys", {"recipe": "digits", "key_normalization": "l2"}),
        (11, "no batch norm of queries and values", {"recipe": "digits", "normalization": "none"}),
        (12, "C-C-C-C", {"recipe": "digits-conv"}),
        (12, "C-C-L-L", {"recipe": "digits", "layers": "CCLL"}),
        (10, "3×3", {"recipe": "digits", "layers": "CLLL", "scope_size": 3}),
        (8, "k=16 h=4 u=1", {"recipe": "digits", "query_depth": 16, "num_heads": 4, "intra_depth": 1}),
        (4, "axial self-attention", {"recipe": "digits", "layers": "AAAA", "mixer": "axial_attention"}),
        (4, "lambda layer, shared embeddings", {"recipe": "digits", "share_position": "stage"}),
        (3, "convolution + SE", None),
        (3, "local relative attention, Zhao 2020", None),
    ],
)
def test_a_row_changes_what_it_speaks_of(number: int, label: str, expected: object) -> None:
    assert overrides(number, label) == expected


def test_a_network_that_cannot_be_as_small_is_none() -> None:
    """Sixteen heads need at least 16 channels; the relation's network has 8."""
    assert overrides(8, "k=8 h=16 u=1", "relation") is None
    assert overrides(8, "k=8 h=16 u=1", "digits") is not None


def test_each_network_and_seed_has_a_folder(tmp_path: Path) -> None:
    rows = {row.label: row for row in (*TABLES[9], *TABLES[11])}
    names = {
        label: _folder_of(config, tmp_path).name
        for label, row in rows.items()
        if (config := _config_of(row, "relation", 2))
    }
    assert names["content only"] == "relation-positional_False-seed2"
    assert names["content and position"] == names["softmax on keys"] == "relation-seed2"
    assert len(set(names.values())) == len(names) - 1


def quick(row: Row, dataset: str, seed: int) -> TrainConfig | None:
    """One epoch of six steps."""
    config = _config_of(row, dataset, seed)
    return config and replace(config, global_batch_size=256, sched=SchedConfig(epochs=1))


@pytest.mark.slow
def test_a_training_fills_the_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(train, "_config_of", quick)

    def trained() -> list:
        given = {"runs": tmp_path, "log": said.append, "rows": "content and *"}
        return list(train_tables((9, 11, 13), "digits", (0, 1), **given))

    (found,) = trained()
    assert (found.table, found.row, found.column) == (9, "content and position", "top1")
    assert (found.kind, found.dataset, found.seeds.keys()) == ("trained", "digits", {"0", "1"})
    assert 0 <= found.value == sum(found.seeds.values()) / 2 <= 100
    assert found.settings["model"] == "lambda_resnet_digits" and found.settings["epochs"] == 1
    assert found.command == "lambdanets tables 9 --train digits --seeds 2"
    assert found.how == "trained on digits, 2 seeds"
    assert {path.name for path in tmp_path.iterdir()} == {"digits-seed0", "digits-seed1"}
    assert said[-1].startswith("[2 of 2] digits-seed")
    # What is there is not trained again.
    reports = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/report.md")}
    assert trained()[0].seeds == found.seeds
    assert reports == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/report.md")}


@pytest.mark.parametrize(
    ("numbers", "dataset", "rows", "message"),
    [
        ((13,), "digits", "*", r"must be among 3, 4, 8, 9, 10, 11, 12 with rows that fit '\*', got 13\."),
        ((9,), "digits", "none", r"with rows that fit 'none', got 9\."),
        (
            (9,),
            "digit",
            "*",
            r"tables: train must be one of 'digits', 'relation', 'pathfinder', got 'digit'\. Closest: digits",
        ),
    ],
)
def test_what_cannot_be_trained_is_named(numbers, dataset, rows, message, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        list(train_tables(numbers, dataset, (0,), runs=tmp_path, log=print, rows=rows))


def test_rows_that_are_left_out_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ArgumentError, match="numbers to train must be among"):
        list(train_tables((3,), "digits", (0,), runs=tmp_path, log=said.append, rows="convolution + SE"))
    assert said == ["table 3, convolution + SE: left out, no such network for digits"]
