"""Small trainings: which network stands for a row, and what a real one leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lambdanets.data.detection import SceneConfig
from lambdanets.detection.backbones import create_backbone
from lambdanets.errors import ArgumentError
from lambdanets.models import on_meta
from lambdanets.models.config import STAGES
from lambdanets.paper import train
from lambdanets.paper.results import append_result, load_results
from lambdanets.paper.rows import Source, find_source
from lambdanets.paper.tables import table
from lambdanets.paper.train import _config_of, _folder_of, train_tables
from lambdanets.published import TABLES, Row
from lambdanets.training.config import DetectConfig, RunConfig, SchedConfig, TrainConfig


def source_of(dataset: str) -> Source:
    return find_source(dataset, None, print)


def overrides(number: int, label: str, dataset: str = "digits") -> dict[str, object] | str:
    (row,) = (row for row in TABLES[number] if row.label == label)
    config = _config_of(row, source_of(dataset), 3, Path("runs"))
    return config if isinstance(config, str) else {"recipe": config.recipe, **config.model.overrides}


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
        (3, "convolution + SE", "it differs in more than its layers: squeeze_excitation, squeeze_ratio"),
        (3, "local relative attention, Zhao 2020", "patchwise_san19 is no ResNet-50"),
    ],
)
def test_a_row_changes_what_it_speaks_of(number: int, label: str, expected: object) -> None:
    assert overrides(number, label) == expected


@pytest.mark.parametrize(
    ("label", "recipe", "name", "squeezed", "blocks"),
    [
        ("ResNet-101", "scenes-demo-conv", "resnet_scenes", (), 5),
        ("ResNet-101 + SE", "scenes-demo-conv", "resnet_scenes_se", STAGES, 5),
        ("LambdaResNet-101", "scenes-demo", "lambda_resnet_scenes", (), 5),
        ("ResNet-152", "scenes-demo-conv", "resnet_scenes_deep", (), 7),
        ("ResNet-152 + SE", "scenes-demo-conv", "resnet_scenes_deep_se", STAGES, 7),
        ("LambdaResNet-152", "scenes-demo", "lambda_resnet_scenes_deep", (), 7),
    ],
)
def test_a_small_backbone_stands_for_a_row(label, recipe, name, squeezed, blocks, tmp_path: Path) -> None:
    (row,) = (row for row in TABLES[14] if row.label == label)
    config = _config_of(row, None, 3, tmp_path)
    assert isinstance(config, DetectConfig)
    assert (config.recipe, config.model.name, config.seed, config.num_threads) == (recipe, name, 3, 1)
    assert config.data.root == str(tmp_path / "scenes")
    folder = recipe if name in ("resnet_scenes", "lambda_resnet_scenes") else f"{recipe}-{name}"
    assert _folder_of(config, tmp_path) == tmp_path / f"{folder}-seed3"
    with on_meta():
        backbone = create_backbone(config.model.name, **config.model.overrides)
    parameters = dict(backbone.named_parameters())
    assert {name[:2] for name in parameters if ".squeeze_excitation." in name} == {*squeezed}
    assert sum(name.endswith(".reduce.weight") for name in parameters) == blocks
    is_lambda = any("to_queries" in name for name in parameters)
    assert is_lambda == label.startswith("Lambda")


def test_a_network_that_cannot_be_as_small_says_why() -> None:
    """Sixteen heads need at least 16 channels; the relation's network has 8."""
    assert overrides(8, "k=8 h=16 u=1", "relation") == (
        "LambdaLayer2d: out_channels must be divisible by num_heads, got 8 and 16. Each head reads a value of"
        " depth out_channels / num_heads."
    )
    assert isinstance(overrides(8, "k=8 h=16 u=1", "digits"), dict)


def test_each_network_and_seed_has_a_folder(tmp_path: Path) -> None:
    rows = {row.label: row for row in (*TABLES[9], *TABLES[11])}
    source = source_of("relation")
    names = {
        label: _folder_of(config, tmp_path).name
        for label, row in rows.items()
        if isinstance(config := _config_of(row, source, 2, tmp_path), TrainConfig)
    }
    assert names["content only"] == "relation-positional_False-seed2"
    assert names["content and position"] == names["softmax on keys"] == "relation-seed2"
    assert len(set(names.values())) == len(names) - 1


def quick(row: Row, source: Source | None, seed: int, runs: Path) -> RunConfig | str:
    """One epoch of six steps."""
    config = _config_of(row, source, seed, runs)
    if isinstance(config, str):
        return config
    return replace(config, global_batch_size=256, sched=SchedConfig(epochs=1))


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


def tiny(row: Row, source: Source | None, seed: int, runs: Path) -> RunConfig:
    """A detector that learns nothing, in four steps."""
    config = _config_of(row, source, seed, runs)
    assert isinstance(config, DetectConfig)
    small = {"channels": 16, "box_features": 16, "proposals": 20, "box_samples": 16}
    return replace(config, detector=replace(config.detector, **small), sched=SchedConfig(epochs=1))


@pytest.mark.slow
def test_a_training_on_scenes_fills_what_scenes_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes and masks of all, small and medium objects, beside the paper's; no cell of large ones."""
    said: list[str] = []
    monkeypatch.setattr(train, "_config_of", tiny)
    monkeypatch.setattr(train, "SceneConfig", lambda: SceneConfig(train=16, val=6))
    options = {"runs": tmp_path, "log": said.append, "rows": "ResNet-101", "num_processes": 1}
    found = list(train_tables((9, 14), "scenes", (0,), **options))
    columns = {f"{kind}_ap{size}" for kind in ("box", "mask") for size in ("", "_small", "_medium")}
    assert {result.column for result in found} == columns
    metrics = (tmp_path / "scenes-demo-conv-seed0" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(metrics[-1])
    for result in found:
        assert (result.table, result.row, result.kind) == (14, "ResNet-101", "trained")
        assert result.value == 100 * last[result.column] == result.seeds["0"]
        assert result.how == "trained on scenes, 1 seed"
        assert result.settings["model"] == "resnet_scenes"
        assert result.command == "lambdanets tables 14 --train scenes --seeds 1"
        append_result(tmp_path / "results", result)
    assert last["box_ap_large"] is None
    assert said[0].startswith(f"{tmp_path / 'scenes'}: ") and said[-1].startswith("[1 of 1] scenes-demo-conv")
    _, cells = table(14, load_results(tmp_path / "results")).rows[0]
    by_column = {cell.column.key: cell for cell in cells}
    assert {name for name, cell in by_column.items() if cell.kind == "trained"} == columns
    assert by_column["box_ap_large"].kind == "not run" and by_column["box_ap"].paper == 48.2
    # What is there is neither drawn nor trained again.
    assert [one.value for one in train_tables((14,), "scenes", (0,), **options)] == [
        one.value for one in found
    ]
    assert len(said) == 5


@pytest.mark.parametrize(
    ("numbers", "dataset", "rows", "message"),
    [
        ((13,), "digits", "*", r"must be among 3, 4, 8, 9, 10, 11, 12 with rows that fit '\*', got 13\."),
        ((9,), "digits", "none", r"with rows that fit 'none', got 9\."),
        (
            (9,),
            "digit",
            "*",
            r"tables: train must be a recipe of a classifier \(`lambdanets recipes`\), a data set or"
            r" 'scenes', got 'digit'\. Closest: digits.* A recipe of your own is known after --import MODULE",
        ),
        ((9, 14), "scenes", "none", r"must be among 14 with rows that fit 'none', got 9, 14\."),
        ((9,), "folder", "*", r"FolderConfig: root must be given, got none\. Use --data\.root DIR"),
        (
            (9,),
            "imagenet-mobilenet-small",
            "*",
            r"tables: train must be a recipe of a ResNet, whose layers are the rows', got"
            r" 'imagenet-mobilenet-small' with lambda_mobilenet_small\.",
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
    assert said == [
        "table 3, convolution + SE: left out, it differs in more than its layers: squeeze_excitation,"
        " squeeze_ratio"
    ]
