"""`lambdanets train`: train a recipe, or continue where it stood."""

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from lambdanets.errors import ArgumentError
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe, smoke_run
from lambdanets.training.config import TrainConfig, differences, flatten
from lambdanets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line of one recipe.

    Attributes:
        out: The run folder. The same command on the same folder continues the run.
        dry_run: Say what would run, and where each setting comes from, with steps, memory and disk.
        config: All settings.
    """

    out: Path
    dry_run: bool = False
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


def configure(parser: argparse.ArgumentParser) -> None:
    """Take all words as they are: the options follow from the recipe's config."""
    parser.add_argument("words", nargs="*")


def main(arguments: argparse.Namespace) -> None:
    """Train. Settings, folder and lock are checked before torch is loaded, so that a refusal is instant."""
    words = arguments.words
    if not words or words[0] in ("-h", "--help"):
        print(list_recipes())
        return
    options = parse(words)
    if options.dry_run:
        from lambdanets.jobs.dry_run import describe

        print(describe(options.config, options.out))
        return
    options.config.data.check_root()
    with RunFolder(options.out).locked(options.config) as folder:
        finished = folder.finished(options.config)
        if finished:
            print(already_finished(folder, finished))
            return
        settings = resolved(options, "--fast" in words)
        folder.append_log(settings)
        print(settings, flush=True)

        # A thread that spins while it waits costs a factor of 16 as soon as another process wants its core.
        # OpenMP reads this when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from lambdanets.jobs.train import train

        train(options.config, folder, command=shlex.join(["lambdanets", "train", *words]))


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
    return replace(options, config=replace(options.config, model=merged))


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
    """Give all settings, and where each changed one comes from."""
    config = options.config
    recipe = get_recipe(config.recipe)
    smoke = flatten(smoke_run(recipe))
    groups: dict[str, list[str]] = {}
    for name, value in flatten(config).items():
        group, _, setting = name.rpartition(".")
        groups.setdefault(group or "run", []).append(f"{setting} {value}")
    lines = [f"{group:<14}{' · '.join(settings)}" for group, settings in groups.items()]
    for name, (old, new) in differences(recipe, config).items():
        origin = "--fast" if fast and new == smoke[name] else "command line"
        lines.append(f"{'changed':<14}{name} {old} -> {new} ({origin})")
    return "\n".join([*lines, f"{'folder':<14}{options.out}"])


def already_finished(folder: RunFolder, last: dict[str, object]) -> str:
    """Say that there is nothing left to do."""
    return (
        f"{folder.path} is already finished: {last['test_accuracy']:.2%} ({last['test_correct']} of"
        f" {last['test_total']}) after epoch {last['epoch']}.\n"
        f"Its page is {folder.report}. Use another --out to train again."
    )
