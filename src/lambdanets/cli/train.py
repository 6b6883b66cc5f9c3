"""`lambdanets train`: train a recipe, or continue where it stood."""

import argparse
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import tyro

from lambdanets.cli.threads import keep_threads_asleep
from lambdanets.data.config import DataConfig, switched
from lambdanets.errors import ArgumentError, check_positive
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe, smoke_run
from lambdanets.training.config import TrainConfig, differences, flatten, non_defaults
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.torchrun import global_rank, world_size

# For the time from the command to the first step.
_STARTED: Final = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line of one recipe.

    Attributes:
        out: The run folder. The same command on the same folder continues the run.
        dry_run: Say what would run, and where each setting comes from, with steps, memory and disk.
        processes: Start so many processes on this machine, by torchrun.
        gpus: The same, each on a GPU of its own.
        max_restarts: How often the processes are started again after one of them has died.
        resume_allow: Settings, by dotted name, that may differ from those of the run that is continued;
            `world_size` is the number of processes.
        tensorboard: Write event files for TensorBoard too, into the folder `tensorboard` of the run.
        config: All settings.
    """

    out: Path
    dry_run: bool = False
    processes: int | None = None
    gpus: int | None = None
    max_restarts: int = 0
    resume_allow: tuple[str, ...] = ()
    tensorboard: bool = False
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        for name in ("processes", "gpus"):
            value = getattr(self, name)
            check_positive("train", **{name: 1 if value is None else value})
        if self.processes and self.gpus:
            raise ArgumentError(
                f"train: processes and gpus must not both be given, got {self.processes} and {self.gpus}."
            )
        if self.max_restarts < 0 or (self.max_restarts and not self.num_processes):
            raise ArgumentError(
                "train: max_restarts must be at least 0, and 0 without processes or gpus, got"
                f" {self.max_restarts}."
            )
        if self.gpus and self.config.exec.device == "cpu":
            raise ArgumentError("train: gpus must not be given with exec.device cpu. Use --processes.")

    @property
    def num_processes(self) -> int:
        """How many processes to start; 0 for this one alone."""
        return self.processes or self.gpus or 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Take all words as they are: the options follow from the recipe's config."""
    parser.add_argument("words", nargs="*")


def main(arguments: argparse.Namespace) -> int:
    """Train. Settings, folder and lock are checked before torch is loaded, so that a refusal is instant."""
    words = arguments.words
    if not words or words[0] in ("-h", "--help"):
        print(list_recipes())
        return 0
    options = parse(words)
    if options.dry_run:
        from lambdanets.launch.dry_run import describe

        print(describe(options.config, options.out, options.num_processes or 1))
        return 0
    options.config.data.check_ready()
    if options.num_processes and world_size() == 1:
        return _start_processes(options, words)
    if global_rank():
        # The first process holds the folder.
        _train(options, RunFolder(options.out), words)
        return 0
    with RunFolder(options.out).locked(options.config, options.resume_allow) as folder:
        if world_size() == 1 and folder.finished(options.config):
            print(folder.closing_words(options.config))
            return 0
        settings = resolved(options, "--fast" in words)
        folder.append_log(settings)
        print(settings, flush=True)
        _train(options, folder, words)
    return 0


def _start_processes(options: Options, words: Sequence[str]) -> int:
    folder = RunFolder(options.out)
    folder.changes(options.config, options.resume_allow)
    if folder.finished(options.config):
        print(folder.closing_words(options.config))
        return 0
    from lambdanets.launch.processes import launch

    return launch(["train", *words], options.num_processes, options.max_restarts)


def _train(options: Options, folder: RunFolder, words: Sequence[str]) -> None:
    keep_threads_asleep()
    from lambdanets.runs.train import train

    command = shlex.join(["lambdanets", "train", *words])
    train(
        options.config,
        folder,
        command=command,
        allow=options.resume_allow,
        tensorboard=options.tensorboard,
        started=_STARTED,
    )


def parse(words: Sequence[str]) -> Options:
    """Make options of `RECIPE --out DIR --optim.learning-rate 0.1 …`.

    Raises:
        ArgumentError: The recipe does not come first, or there is none of that name.
    """
    name, *rest = words
    if name.startswith("-"):
        raise ArgumentError(f"parse: recipe must come first, got {name!r}. One of {', '.join(RECIPES)}.")
    config = get_recipe(name)
    if "--fast" in rest:
        # The flag itself sets `fast`; what it stands for are other defaults.
        config = replace(smoke_run(config), fast=False)
    config = replace(config, data=named_data(config.data, rest))
    # Tyro lets a dictionary with entries be changed but not extended, so it starts empty and is merged below.
    recipe_overrides = config.model.overrides
    config = replace(config, model=replace(config.model, overrides={}))
    options = tyro.cli(
        Options,
        prog=f"lambdanets train {name}",
        description=describe_recipe(name)["Summary"],
        args=rest,
        default=Options(out=Path("runs") / name, config=config),
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.SuppressFixed),
    )
    model = options.config.model
    merged = replace(model, overrides={**recipe_overrides, **model.overrides})
    config = replace(options.config, model=merged)
    if options.gpus:
        config = replace(config, exec=replace(config.exec, device="cuda"))
    return replace(options, config=config)


def named_data(data: DataConfig, words: Sequence[str]) -> DataConfig:
    """The data set that `--data.name` names, with the settings that it shares with another one.

    Each data set has options of its own, so it is known before the others are parsed.
    """
    found = re.findall(r"^--data\.name[=\n](.*)$", "\n".join(words), re.MULTILINE)
    return switched(data, found[-1]) if found else data


def list_recipes() -> str:
    """Say which recipes there are and how to start one."""
    width = max(map(len, RECIPES))
    lines = ["usage: lambdanets train RECIPE [--out DIR] [--fast] [settings]", "", "recipes:"]
    for name in RECIPES:
        fields = describe_recipe(name)
        lines.append(f"  {name:<{width}}  {fields['Summary']}")
        lines.append(f"  {'':<{width}}  {fields['Expected']} {fields['Cost']}")
    return "\n".join([*lines, "", f"All settings of one: lambdanets train {next(iter(RECIPES))} --help"])


def resolved(options: Options, fast: bool) -> str:
    """Give the settings that are not left at their defaults, and where each changed one comes from."""
    config = options.config
    recipe = get_recipe(config.recipe)
    smoke = flatten(smoke_run(recipe))
    groups: dict[str, list[str]] = {}
    for name, value in non_defaults(config).items():
        group, _, setting = name.rpartition(".")
        groups.setdefault(group or "run", []).append(f"{setting} {value}")
    lines = [f"{group:<14}{' · '.join(settings)}" for group, settings in groups.items()]
    for name, (old, new) in differences(recipe, config).items():
        origin = "--fast" if fast and new == smoke[name] else "command line"
        lines.append(f"{'changed':<14}{name} {old} -> {new} ({origin})")
    return "\n".join([*lines, f"{'folder':<14}{options.out}"])
