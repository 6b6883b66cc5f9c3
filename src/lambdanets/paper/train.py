"""Accuracies of a table by small real trainings: a row's layers in a network that two cores can train."""

import contextlib
import io
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from lambdanets.errors import ArgumentError, check_choice
from lambdanets.models import list_models, on_meta
from lambdanets.models.config import LambdaConfig, NetworkConfig
from lambdanets.models.variants import model_config
from lambdanets.paper.results import Result, new_result
from lambdanets.published import TABLES, Row
from lambdanets.recipes import RECIPES, get_recipe, recipes_of
from lambdanets.runs.origin import commit
from lambdanets.runs.tasks import load_task, make_model
from lambdanets.runs.train import train
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder

# Tables of layers in a ResNet-50. Those of large networks say nothing about a small one.
_TRAINED: Final = (3, 4, 8, 9, 10, 11, 12)

# Data sets with a recipe for lambda layers and one for convolutions.
_DATASETS: Final = tuple(name for name in recipes_of(TrainConfig) if f"{name}-conv" in RECIPES)

# The settings of a network that a row of these tables may change.
_LAYER_SETTINGS: Final = ("layers", *(one.name for one in fields(LambdaConfig)), "share_position", "mixer")


def _config_of(row: Row, dataset: str, seed: int) -> TrainConfig | None:
    """Make the recipe of a data set with the layers of a row.

    Only the settings by which the row differs from an all-lambda or plain ResNet-50 change: the small network
    keeps its own depths, widths and window otherwise. None where the row differs in more than its layers, or
    its network cannot be made as small.
    """
    if row.model not in list_models("resnet50*"):
        return None
    is_plain = row.model == "resnet50"
    usual = model_config("resnet50" if is_plain else "resnet50_llll")
    settings = _settings(model_config(row.model, **row.overrides))
    different = {name for name, value in _settings(usual).items() if settings[name] != value}
    if not different <= {*_LAYER_SETTINGS}:
        return None
    recipe = get_recipe(f"{dataset}-conv" if is_plain else dataset, TrainConfig)
    changed = different | row.overrides.keys()
    overrides: dict[str, Any] = {
        **recipe.model.overrides,
        **{name: settings[name] for name in _LAYER_SETTINGS if name in changed},
    }
    config = replace(recipe, seed=seed, model=replace(recipe.model, overrides=overrides))
    try:
        with on_meta():
            make_model(config.model, load_task(config))
    except ArgumentError:
        return None
    return config


def _settings(config: NetworkConfig) -> dict[str, Any]:
    """The settings of a network, with those of its lambda layers among them."""
    settings = asdict(config)
    return {**settings.pop("lambda_layer"), **settings}


def train_tables(
    numbers: Sequence[int],
    dataset: str,
    seeds: Sequence[int],
    *,
    runs: Path,
    log: Callable[[str], None],
    rows: str = "*",
    num_processes: int | None = None,
) -> Iterator[Result]:
    """Train the rows of tables on a data set, once for each seed, as many at a time as there are cores.

    Equal networks are trained once. A finished run is not trained again, and a stopped one continues.

    Args:
        numbers: Tables; those without anything to train are skipped.
        dataset: One of the recipes' data sets.
        seeds: Seeds of each row.
        runs: Contains the run folders.
        log: Receives a line about each run.
        rows: Shell pattern of the labels of rows.
        num_processes: Trainings at a time; None for one per core.

    Raises:
        ArgumentError: None of the tables has anything to train.
    """
    check_choice("tables", "train", dataset, _DATASETS)
    planned: list[tuple[Row, list[TrainConfig]]] = []
    for row in (row for number in numbers if number in _TRAINED for row in TABLES[number]):
        if fnmatchcase(row.label, rows):
            configs = [config for seed in seeds if (config := _config_of(row, dataset, seed))]
            if configs:
                planned.append((row, configs))
            else:
                log(f"table {row.table}, {row.label}: left out, no such network for {dataset}")
    if not planned:
        raise ArgumentError(
            f"tables: numbers to train must be among {', '.join(map(str, _TRAINED))} with rows that fit"
            f" {rows!r}, got {', '.join(map(str, numbers))}."
        )
    # Asked at the start: later the files may differ from the code that runs.
    commit()
    folders = {_folder_of(config, runs): config for _, configs in planned for config in configs}
    accuracies = _train_all(folders, log, num_processes or len(os.sched_getaffinity(0)))
    for row, configs in planned:
        by_seed = {str(config.seed): accuracies[_folder_of(config, runs)] for config in configs}
        config = configs[0]
        yield new_result(
            row,
            "top1",
            sum(by_seed.values()) / len(by_seed),
            "trained",
            dataset=dataset,
            seeds=by_seed,
            settings={
                "recipe": config.recipe,
                "model": config.model.name,
                "overrides": config.model.overrides,
                "epochs": config.sched.epochs,
            },
            command=f"lambdanets tables {row.table} --train {dataset} --seeds {len(by_seed)}",
        )


def _folder_of(config: TrainConfig, runs: Path) -> Path:
    """The run folder of a network and seed."""
    words = [config.recipe, *(f"{name}_{value}" for name, value in config.model.overrides.items())]
    name = re.sub(r"[^\w.-]+", "_", "-".join(words))
    return runs / f"{name}-seed{config.seed}"


def _train_all(
    configs: Mapping[Path, TrainConfig], log: Callable[[str], None], num_processes: int
) -> dict[Path, float]:
    accuracies: dict[Path, float] = {}
    # Spawned: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, len(configs)), mp_context=context) as pool:
        started = {pool.submit(_train_one, config, folder): folder for folder, config in configs.items()}
        for done in as_completed(started):
            folder = started[done]
            accuracies[folder] = done.result()
            log(f"[{len(accuracies)} of {len(configs)}] {folder.name}: {accuracies[folder]:.2f} %")
    return accuracies


def _train_one(config: TrainConfig, folder: Path) -> float:
    """Train a config unless its run is finished; return the accuracy after the last epoch, in percent."""
    with RunFolder(folder).locked(config) as run:
        if not run.finished(config):
            # The run's log has the same lines.
            with contextlib.redirect_stdout(io.StringIO()):
                train(config, run, command=f"lambdanets train {config.recipe}")
        return 100 * float(run.read_metrics()[-1]["test_accuracy"])
