"""`lambdanets recipes` and `slurm`: list the recipes; print a batch script that trains one."""

import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from lambdanets.cli._options import Argv, Recipe
from lambdanets.errors import ArgumentError
from lambdanets.launch.slurm import slurm_script
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe
from lambdanets.terminal import pairs

_HEADINGS: Final = ("recipe", "network", "pixels", "epochs", "batch", "expected", "paper")


def recipes(pattern: str = "*", /, *, format: Literal["text", "markdown"] = "text") -> None:
    """List the recipes.

    Args:
        pattern: A shell's pattern, such as 'imagenet-*-256'.
        format: text: one line each; markdown: a table with what is expected of them.
    """
    names = [name for name in RECIPES if fnmatchcase(name, pattern)]
    if not names:
        raise ArgumentError(
            f"recipes: pattern must fit one of {len(RECIPES)} recipes, got {pattern!r}."
            " `lambdanets recipes` lists them all."
        )
    if format == "markdown":
        rows = [_HEADINGS, ("---",) * len(_HEADINGS), *map(_row, names)]
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    else:
        print(pairs({name: describe_recipe(name)["Summary"] for name in names}))
        print(f"{len(names)} recipes")


def slurm(
    config: Recipe,
    *,
    argv: Argv,
    nodes: int,
    gpus_per_node: int,
    time: str = "24:00:00",
    out: Path | None = None,
    resume_allow: tuple[str, ...] = (),
    tensorboard: bool = False,
) -> None:
    """Print a SLURM script that trains a recipe on several machines.

    Use it as lambdanets slurm … > run.sh, then sbatch run.sh.

    Args:
        config: The recipe's settings.
        argv: The words of the command.
        nodes: Number of machines.
        gpus_per_node: GPUs of each machine, every one with a process of its own.
        time: Limit of one stay in the queue, as sbatch takes it.
        out: As in `lambdanets train`, and so the next two; a folder that all machines see.
        resume_allow: Settings that may differ from those of the run that is continued.
        tensorboard: Write event files for TensorBoard.
    """
    script = slurm_script(
        config,
        list(_train_words(argv)),
        command=shlex.join(["lambdanets", "slurm", *argv]),
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        time=time,
    )
    print(script, end="")


def _row(name: str) -> tuple[str, ...]:
    config, described = get_recipe(name), describe_recipe(name)
    return (
        f"`{name}`",
        f"`{config.model.name}`",
        str(getattr(config.data, "image_size", "as stored")),
        str(config.sched.epochs),
        str(config.global_batch_size),
        described["Expected"].rstrip("."),
        described["Paper"].rstrip("."),
    )


def _train_words(argv: Argv) -> Iterator[str]:
    """Leave out the options that are not those of `lambdanets train`, with their values."""
    words = iter(argv)
    for word in words:
        option, has_value, _ = word.partition("=")
        if option not in ("--nodes", "--gpus-per-node", "--time"):
            yield word
        elif not has_value:
            next(words, None)
