"""Numbers of a table by small real trainings: what a row changes, in a network that two cores can train."""

import contextlib
import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from lambdanets.data.config import DataConfig, FilesConfig
from lambdanets.data.detection import SceneConfig
from lambdanets.detection.scenes import write_scenes
from lambdanets.errors import ArgumentError, LostProcessError, StoppedError, first_line
from lambdanets.extensions import take_imports, with_imports
from lambdanets.paper.results import Result, new_result
from lambdanets.paper.rows import Source, config_of, find_source
from lambdanets.processes import worker_pool
from lambdanets.published import TABLES, Row
from lambdanets.recipes import get_recipe
from lambdanets.runs.origin import commit
from lambdanets.runs.train import train
from lambdanets.terminal import Progress, count, format_duration
from lambdanets.training.config import DetectConfig, RunConfig
from lambdanets.training.run_folder import RunFolder

# Tables of layers in a ResNet-50, by classifiers. Those of large networks say nothing about a small one.
_CLASSIFIED: Final = (3, 4, 8, 9, 10, 11, 12)
# The table of backbones, by detectors.
_DETECTED: Final = (14,)

# Scenes are drawn below the folder of runs; the recipes of their detectors are those of the demonstration.
_SCENES: Final = "scenes"

# A row's backbone, and the small one that is trained for it.
_BACKBONES: Final = {
    "resnet_rs101_wo_se": "resnet_scenes",
    "resnet_rs101": "resnet_scenes_se",
    "lambda_resnet101": "lambda_resnet_scenes",
    "resnet_rs152_wo_se": "resnet_scenes_deep",
    "resnet_rs152": "resnet_scenes_deep_se",
    "lambda_resnet152": "lambda_resnet_scenes_deep",
}

# Columns that have another name in the metrics of a run.
_METRICS: Final = {"top1": "test_accuracy"}

# Seconds between two looks at the trainings.
_LOOK_S: Final = 1.0

# By column, in percent; None where the data set has nothing to count.
_Found = dict[str, float | None]


def _config_of(row: Row, source: Source | None, seed: int, runs: Path) -> RunConfig | str:
    """Make the config that trains a row, or say why there is none; without a source, on the scenes."""
    return _detector_of(row, seed, runs) if source is None else config_of(row, source, seed)


def _detector_of(row: Row, seed: int, runs: Path) -> DetectConfig:
    """Make the recipe of the scenes with the backbone that stands for a row's."""
    name = _BACKBONES[row.model]
    recipe = get_recipe("scenes-demo" if name.startswith("lambda") else "scenes-demo-conv", DetectConfig)
    return replace(
        recipe,
        seed=seed,
        # As many trainings at a time as there are cores.
        num_threads=1,
        model=replace(recipe.model, name=name),
        data=replace(recipe.data, root=str(runs / _SCENES)),
    )


def train_tables(
    numbers: Sequence[int],
    dataset: str,
    seeds: Sequence[int],
    *,
    runs: Path,
    log: Callable[[str], None],
    rows: str = "*",
    num_processes: int | None = None,
    data: DataConfig | None = None,
) -> Iterator[Result]:
    """Train the rows of tables on a data set, once for each seed, as many at a time as there are cores.

    Equal networks are trained once. A finished run is not trained again, and a stopped one continues.

    Args:
        numbers: Tables; those without anything to train are skipped.
        dataset: The name of a recipe of a classifier or of the data set that one trains on, or `scenes`.
        seeds: Seeds of each row.
        runs: Contains the run folders, and the scenes, which are drawn once.
        log: Receives a line about each run.
        rows: Shell pattern of the labels of rows.
        num_processes: Trainings at a time; None for one per core.
        data: The data set with other settings than the recipe's.

    Raises:
        ArgumentError: There is no such data set; none of the tables has anything to train.
    """
    source = None if dataset == _SCENES else find_source(dataset, data, log)
    planned = _plan(numbers, source, seeds, runs, rows, log)
    # Asked at the start: later the files may differ from the code that runs.
    commit()
    if source is None and not (runs / _SCENES).exists():
        counts = write_scenes(runs / _SCENES, SceneConfig())
        drawn = ", ".join(f"{count(num, 'object')} in {part}" for part, num in counts.items())
        log(f"{runs / _SCENES}: {drawn}")
    columns = ("top1",) if source is not None else tuple(planned[0][0].values)
    folders = {_folder_of(config, runs): config for _, configs in planned for config in configs}
    found: dict[Path, _Found] = {}
    num_processes = num_processes or len(os.sched_getaffinity(0))
    # A row is given as soon as its last training is done, so that an end halfway loses none before it.
    for folder, of_run in _train_all(folders, columns, log, num_processes):
        found[folder] = of_run
        for row, configs in planned:
            by_seed = {str(config.seed): _folder_of(config, runs) for config in configs}
            if folder in by_seed.values() and found.keys() >= {*by_seed.values()}:
                of_seeds = {seed: found[one] for seed, one in by_seed.items()}
                yield from _results_of(row, configs[0], dataset, source, of_seeds)


def _plan(
    numbers: Sequence[int],
    source: Source | None,
    seeds: Sequence[int],
    runs: Path,
    rows: str,
    log: Callable[[str], None],
) -> list[tuple[Row, list[RunConfig]]]:
    """The rows that can be trained, each with the configs of its seeds."""
    trained = _DETECTED if source is None else _CLASSIFIED
    planned: list[tuple[Row, list[RunConfig]]] = []
    for row in (row for number in numbers if number in trained for row in TABLES[number]):
        if fnmatchcase(row.label, rows):
            made = [_config_of(row, source, seed, runs) for seed in seeds]
            configs = [config for config in made if not isinstance(config, str)]
            if configs:
                planned.append((row, configs))
            else:
                log(f"table {row.table}, {row.label}: left out, {made[0]}")
    if not planned:
        raise ArgumentError(
            f"tables: numbers to train must be among {', '.join(map(str, trained))} with rows that fit"
            f" {rows!r}, got {', '.join(map(str, numbers))}."
        )
    return planned


def _results_of(
    row: Row, config: RunConfig, name: str, source: Source | None, by_seed: Mapping[str, _Found]
) -> Iterator[Result]:
    """The mean of each column over the seeds; none of a column that a seed has no number for."""
    for column in next(iter(by_seed.values())):
        values = {seed: value for seed, one in by_seed.items() if (value := one[column]) is not None}
        if len(values) < len(by_seed):
            continue
        yield new_result(
            row,
            column,
            sum(values.values()) / len(values),
            "trained",
            dataset=source.dataset if source else name,
            seeds=values,
            settings={
                "recipe": config.recipe,
                "model": config.model.name,
                "overrides": config.model.overrides,
                "epochs": config.sched.epochs,
            },
            command=(
                f"lambdanets tables {row.table} --train {name}{source.options if source else ''}"
                f" --seeds {len(values)}"
            ),
        )


def _folder_of(config: RunConfig, runs: Path) -> Path:
    """The run folder of a network and seed, and of a folder of images."""
    is_own = config.model.name == get_recipe(config.recipe, RunConfig).model.name
    files = [Path(config.data.root).name] if isinstance(config.data, FilesConfig) else []
    words = [config.recipe, *files, *([] if is_own else [config.model.name])]
    words += [f"{name}_{value}" for name, value in config.model.overrides.items()]
    name = re.sub(r"[^\w.-]+", "_", "-".join(words))
    return runs / f"{name}-seed{config.seed}"


def _train_all(
    configs: Mapping[Path, RunConfig],
    columns: tuple[str, ...],
    log: Callable[[str], None],
    num_processes: int,
) -> Iterator[tuple[Path, _Found]]:
    """Train, and give the numbers of each run as it ends.

    Raises:
        StoppedError: SIGTERM came, or the terminal was closed; trainings under way have saved.
        LostProcessError: A process was killed.
        Exception: The error of the first training that failed, after the others have ended.
    """
    num_processes = min(num_processes, len(configs))
    log(f"trainings: {len(configs)}, {num_processes} at a time")
    failed: list[Exception] = []
    num_done = 0
    what = "finished trainings are kept, and the same command continues the others."
    # A new process knows what the modules of `--import` registered after importing them too.
    imports = (with_imports(()),)
    with worker_pool(num_processes, what, take_imports, imports) as pool, _progress(configs) as progress:
        left = {
            pool.submit(_train_one, config, folder, columns): folder for folder, config in configs.items()
        }
        while left:
            done, _ = wait(left, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            progress.update(_epochs_done(configs))
            for future in sorted(done, key=lambda one: one.exception() is not None):
                folder, num_done = left.pop(future), num_done + 1
                prefix = f"[{num_done} of {len(configs)}] {folder.name}:"
                if isinstance(error := future.exception(), BrokenProcessPool):
                    raise LostProcessError(
                        f"tables: processes that train must live, got one of {num_processes} that was killed,"
                        " probably for memory. Use fewer with --processes; the same command goes on."
                    ) from error
                if isinstance(error, Exception):
                    failed.append(error)
                    log(f"{prefix} failed, {first_line(error)}")
                    continue
                shown = (
                    f"{name} {value:.2f} %" for name, value in future.result().items() if value is not None
                )
                log(f"{prefix} {', '.join(shown)}")
                yield folder, future.result()
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _progress(configs: Mapping[Path, RunConfig]) -> Iterator[Progress]:
    """Show how many epochs of all trainings are done, beside the standard output."""
    total = sum(one.sched.epochs for one in configs.values())
    first, started = _epochs_done(configs), time.monotonic()

    def status() -> str:
        done = _epochs_done(configs)
        seconds = time.monotonic() - started
        left = f" · {format_duration(seconds / (done - first) * (total - done))} left" if done > first else ""
        return f"epochs: {done:,} of {total:,} · {format_duration(seconds)}{left}"

    with Progress("training", total, status, completed=first, stderr=True) as progress:
        yield progress


def _epochs_done(configs: Iterable[Path]) -> int:
    """The epochs that runs have written down so far."""
    return sum(
        max((record["epoch"] for record in RunFolder(folder).read_metrics()), default=0) for folder in configs
    )


def _train_one(config: RunConfig, folder: Path, columns: tuple[str, ...]) -> _Found:
    """Train a config unless its run is finished; return its numbers after the last epoch."""
    try:
        return _trained(config, folder, columns)
    except StoppedError:
        # It has saved. The pool would give this process the next training.
        os._exit(StoppedError.exit_code)


def _trained(config: RunConfig, folder: Path, columns: tuple[str, ...]) -> _Found:
    with RunFolder(folder).locked(config) as run:
        if not run.finished(config):
            # The run's log has the same lines.
            with contextlib.redirect_stdout(io.StringIO()):
                train(config, run, command=f"lambdanets {config.command} {config.recipe}")
        metrics = run.read_metrics()[-1]
    fractions = {column: metrics[_METRICS.get(column, column)] for column in columns}
    return {column: None if value is None else 100 * value for column, value in fractions.items()}
