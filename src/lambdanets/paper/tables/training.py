"""Accuracy columns by small real trainings: a row's layers in a network that two cores can train."""

import contextlib
import io
import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from lambdanets.errors import ArgumentError, check_choice
from lambdanets.models import list_models, on_meta
from lambdanets.models.variants import model_config
from lambdanets.paper.tables.results import Result
from lambdanets.published import TABLES, Row
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.runs.origin import commit, machine_name, now, versions
from lambdanets.runs.tasks import load_task
from lambdanets.runs.train import train
from lambdanets.training.config import TrainConfig
from lambdanets.training.run_folder import RunFolder

# Tables of layers in a ResNet-50. Those of large networks say nothing about a small one.
TRAINED: Final = (3, 4, 8, 9, 10, 11, 12)

# Data sets with a recipe for lambda layers and one for convolutions.
TWINS: Final = tuple(name for name in RECIPES if f"{name}-conv" in RECIPES)

# All that a row says of its layers, as far as a config can hold it.
_LAYERS: Final = (
    "layers",
    "query_depth",
    "num_heads",
    "intra_depth",
    "scope_size",
    "content",
    "positional",
    "share_position",
    "key_normalization",
    "normalization",
    "mixer",
)


def config_of(row: Row, dataset: str, seed: int) -> TrainConfig | None:
    """The recipe of a data set with the layers of a row.

    Only what the row changes of an all-lambda or plain ResNet-50 is changed: the small network keeps its own
    depths, widths and window otherwise.

    Returns:
        None where the row's network is none of layers alone, or cannot be made as small.
    """
    if row.model not in list_models("resnet50*"):
        return None
    theirs = model_config(row.model, **row.overrides)
    is_plain = row.model == "resnet50"
    usual = model_config("resnet50" if is_plain else "resnet50_llll")
    theirs_flat, usual_flat = (asdict(config) | asdict(config.lambda_layer) for config in (theirs, usual))
    different = {
        name for name, value in theirs_flat.items() if name != "lambda_layer" and value != usual_flat[name]
    }
    if not different <= {*_LAYERS}:
        return None
    recipe = get_recipe(f"{dataset}-conv" if is_plain else dataset)
    overrides: dict[str, Any] = {
        name: theirs_flat[name] for name in _LAYERS if name in {*different, *row.overrides}
    }
    config = replace(
        recipe, seed=seed, model=replace(recipe.model, overrides={**recipe.model.overrides, **overrides})
    )
    return config if _can_build(config) else None


def _can_build(config: TrainConfig) -> bool:
    try:
        with on_meta():
            load_task(config).make_model(config.model)
    except ArgumentError:
        return False
    return True


def train_tables(
    numbers: Sequence[int],
    dataset: str,
    seeds: Sequence[int],
    *,
    runs: Path,
    tell: Callable[[str], None],
    rows: str = "*",
    num_processes: int | None = None,
    configure: Callable[[Row, str, int], TrainConfig | None] = config_of,
) -> Iterator[Result]:
    """Train the rows of tables on a data set, once for each seed, as many at a time as there are cores.

    Equal networks are trained once. A run that is there already is not trained again, and one that was
    stopped goes on.

    Args:
        numbers: Tables; those without anything to train are passed over.
        dataset: One of the recipes' data sets.
        seeds: Of each row.
        runs: Run folders go here.
        tell: Is told what happens.
        rows: Shell pattern of the labels of rows.
        num_processes: At a time; None for one a core.
        configure: Makes the config of (row, data set, seed), or None where there can be none.

    Raises:
        ArgumentError: None of the tables has anything to train.
    """
    check_choice("tables", "train", dataset, TWINS)
    chosen = [row for number in numbers if number in TRAINED for row in TABLES[number]]
    plans: list[tuple[Row, list[TrainConfig]]] = []
    for row in chosen:
        if fnmatchcase(row.label, rows):
            configs = [config for seed in seeds if (config := configure(row, dataset, seed))]
            if configs:
                plans.append((row, configs))
            else:
                tell(f"table {row.table}, {row.label}: left out, no such network for {dataset}")
    if not plans:
        raise ArgumentError(
            f"tables: numbers to train must be among {', '.join(map(str, TRAINED))} with rows that fit"
            f" {rows!r}, got {', '.join(map(str, numbers))}."
        )
    wanted = {folder_of(config, runs): config for _, configs in plans for config in configs}
    # What runs is what was there at the start.
    commit()
    accuracies = _train_all(wanted, tell, num_processes or len(os.sched_getaffinity(0)))
    for row, configs in plans:
        found = {str(config.seed): accuracies[folder_of(config, runs)] for config in configs}
        yield _result(row, dataset, configs[0], found)


def folder_of(config: TrainConfig, runs: Path) -> Path:
    """A run folder for each network and seed."""
    words = [config.recipe, *(f"{name}_{value}" for name, value in config.model.overrides.items())]
    name = re.sub(r"[^\w.-]+", "_", "-".join(words))
    return runs / f"{name}-seed{config.seed}"


def _train_all(
    wanted: Mapping[Path, TrainConfig], tell: Callable[[str], None], num_processes: int
) -> dict[Path, float]:
    accuracies: dict[Path, float] = {}
    # Spawned: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, len(wanted)), mp_context=context) as pool:
        started = {pool.submit(train_one, config, folder): folder for folder, config in wanted.items()}
        for done in as_completed(started):
            folder = started[done]
            accuracies[folder] = done.result()
            tell(f"[{len(accuracies)} of {len(wanted)}] {folder.name}: {accuracies[folder]:.2f} %")
    return accuracies


def train_one(config: TrainConfig, folder: Path) -> float:
    """Train a config, or take what an earlier process finished. What it prints stands in its log.

    Returns:
        The accuracy after the last epoch, in percent.
    """
    with RunFolder(folder).locked(config) as run:
        if not run.finished(config):
            with contextlib.redirect_stdout(io.StringIO()):
                train(config, run, command=f"lambdanets train {config.recipe}")
        return 100 * float(run.read_metrics()[-1]["test_accuracy"])


def _result(row: Row, dataset: str, config: TrainConfig, accuracies: Mapping[str, float]) -> Result:
    return Result(
        table=row.table,
        row=row.label,
        column="top1",
        value=sum(accuracies.values()) / len(accuracies),
        kind="trained",
        machine=machine_name(),
        dataset=dataset,
        seeds=accuracies,
        settings={
            "recipe": config.recipe,
            "model": config.model.name,
            "overrides": config.model.overrides,
            "epochs": config.sched.epochs,
        },
        versions=versions(),
        commit=commit(),
        command=f"lambdanets tables {row.table} --train {dataset} --seeds {len(accuracies)}",
        date=now(),
    )
