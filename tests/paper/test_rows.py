"""Small networks in place of the rows', on the data set of any recipe and on a folder of one's own."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

import lambdanets
from lambdanets import TrainConfig, cli
from lambdanets.data.config import DATA_SETS, DigitsConfig, FolderConfig
from lambdanets.errors import ArgumentError
from lambdanets.paper import train
from lambdanets.paper.results import _read_results
from lambdanets.paper.rows import Source, config_of, find_source, recipe_for
from lambdanets.paper.train import _config_of, _folder_of
from lambdanets.published import TABLES, Row
from lambdanets.recipes import get_recipe
from lambdanets.training.config import ModelConfig, RunConfig, SchedConfig
from support.images import make_folder


def row_of(number: int, label: str) -> Row:
    (row,) = (row for row in TABLES[number] if row.label == label)
    return row


def model_of(number: int, label: str, source: Source) -> dict[str, object]:
    config = config_of(row_of(number, label), source, 0)
    assert isinstance(config, TrainConfig)
    return {"name": config.model.name, **config.model.overrides}


@pytest.fixture
def flowers(tmp_path: Path) -> FolderConfig:
    make_folder(tmp_path / "flowers", ["aster", "daisy", "lily"], each=8)
    return FolderConfig(root=str(tmp_path / "flowers"))


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("digits", "digits"),
        ("digits-conv", "digits"),
        ("semi-student", "semi-student"),
        ("folder", "photos"),
        ("shards", "photos"),
        ("digit-images", "imagenet-90ep-small"),
    ],
)
def test_a_name_is_a_recipes_or_a_data_sets(name: str, recipe: str) -> None:
    assert recipe_for(name).recipe == recipe


@pytest.mark.parametrize(
    ("name", "lambdas", "convolutions"),
    [
        ("digits", {"name": "lambda_resnet_digits"}, {"name": "resnet_digits"}),
        ("semi", {"name": "lambda_resnet_digits"}, {"name": "resnet_digits"}),
        (
            "imagenet-90ep-small",
            {"name": "lambda_resnet_digits", "stem": "classic", "image_size": 32},
            {"name": "lambda_resnet_digits", "stem": "classic", "image_size": 32, "layers": "CCCC"},
        ),
        (
            "imagenet-350ep-small",
            {"name": "lambda_resnet_small", "dropout": 0.1, "stochastic_depth": 0.1},
            {"name": "lambda_resnet_small", "dropout": 0.1, "stochastic_depth": 0.1, "layers": "CCCC"},
        ),
    ],
)
def test_a_recipes_network_has_a_twin(name: str, lambdas: object, convolutions: object) -> None:
    source = find_source(name, None, print)
    networks = [
        {"name": config.model.name, **config.model.overrides}
        for config in (source.lambdas, source.convolutions)
    ]
    assert networks == [lambdas, convolutions]
    assert source.lambdas.data == source.convolutions.data
    assert (source.dataset, source.options, source.lambdas.num_threads) == (name, "", 1)


def test_a_row_has_its_letters_in_any_network() -> None:
    """Those of the paper, not the recipe's own, whose lambda blocks would stand beside them."""
    source = find_source("imagenet-350ep-small", None, print)
    own = {"name": "lambda_resnet_small", "dropout": 0.1, "stochastic_depth": 0.1}
    assert model_of(9, "content only", source) == {**own, "layers": "LLLL", "positional": False}
    assert model_of(12, "C-C-C-L", source) == {**own, "layers": "CCCL"}
    assert model_of(12, "C-C-C-C", source) == {**own, "layers": "CCCC"}


def test_a_folder_is_trained_on_by_the_recipe_of_photos(flowers: FolderConfig, tmp_path: Path) -> None:
    said: list[str] = []
    source = find_source("folder", flowers, said.append)
    assert (source.lambdas.model.name, source.convolutions.model.name) == (
        "lambda_resnet_photos",
        "resnet_photos",
    )
    assert source.dataset == "flowers" and f" --data.root {tmp_path / 'flowers'}" in source.options
    assert said and all(line.startswith("photos: ") for line in said)
    assert model_of(12, "C-C-C-C", source)["name"] == "resnet_photos"
    assert "layers" not in model_of(12, "C-C-L-L", source)
    assert model_of(12, "L-L-L-L", source)["layers"] == "LLLL"
    config = config_of(row_of(12, "C-C-L-L"), source, 4)
    assert isinstance(config, TrainConfig)
    assert _folder_of(config, tmp_path).name.startswith("photos-flowers-")
    assert _folder_of(config, tmp_path).name.endswith("-seed4")


def test_a_given_size_of_images_stays(flowers: FolderConfig) -> None:
    source = find_source("photos", replace(flowers, image_size=40), print)
    assert source.lambdas.data == source.convolutions.data
    assert getattr(source.lambdas.data, "image_size", None) == 40
    assert " --data.image-size 40" in source.options


@pytest.mark.usefixtures("as_registered")
def test_a_recipe_of_ones_own_is_trained_on() -> None:
    """Its network has convolutions: the rows' lambda layers stand in the twin that has them."""

    @lambdanets.register_recipe
    def plain_digits() -> TrainConfig:
        return replace(get_recipe("digits"), model=ModelConfig(name="resnet_digits"))

    source = find_source("plain-digits", None, print)
    assert source.lambdas.model.name == "lambda_resnet_digits"
    assert source.convolutions.model.name == "resnet_digits"
    assert source.convolutions.recipe == source.lambdas.recipe == source.dataset == "plain-digits"


def test_a_data_set_without_a_recipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = dataclasses.make_dataclass("Lonely", [], bases=(DigitsConfig,), frozen=True, kw_only=True)
    monkeypatch.setitem(DATA_SETS, "lonely", lonely)
    with pytest.raises(ArgumentError) as caught:
        recipe_for("lonely")
    assert str(caught.value) == (
        "tables: train must be a data set that a recipe of a classifier trains, got 'lonely', which none"
        " does. Register one by lambdanets.register_recipe."
    )


def one_epoch(row: Row, source: Source | None, seed: int, runs: Path) -> RunConfig | str:
    config = _config_of(row, source, seed, runs)
    return config if isinstance(config, str) else replace(config, sched=SchedConfig(epochs=1))


@pytest.mark.slow
def test_a_folder_fills_a_cell(
    flowers: FolderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "_config_of", one_epoch)
    words = "tables 12 --train folder --data.root flowers --seeds 1 --rows C-C-?-? --processes 1"
    assert cli.run(words.split()) == 0
    shown = capsys.readouterr()
    assert "trained on flowers, 1 seed" in shown.out and "photos: " in shown.err
    found = [one for one in _read_results(Path("results")) if one.kind == "trained"]
    assert {one.row for one in found} == {"C-C-C-C", "C-C-C-L", "C-C-L-L"}
    assert all(one.dataset == "flowers" and one.settings["recipe"] == "photos" for one in found)
    assert all("tables 12 --train folder --data." in one.command for one in found)
    assert all(" --data.root flowers" in one.command for one in found)
    assert len([*Path("runs/tables").glob("photos-flowers-*-seed0")]) == 3
