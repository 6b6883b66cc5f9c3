"""`lambdanets recipes`: list the recipes, or print a SLURM script that trains one."""

import argparse
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from lambdanets.cli.train import parse
from lambdanets.errors import ArgumentError
from lambdanets.launch.slurm import slurm_script
from lambdanets.recipes import RECIPES, describe_recipe, get_recipe

_USAGE = """usage: lambdanets recipes [PATTERN] [--format text|markdown]
       lambdanets recipes slurm RECIPE --nodes N --gpus-per-node G [--time LIMIT] [settings of train]

Without PATTERN all are listed; a pattern is a shell's, such as 'imagenet-*-256'. The SLURM script goes to the
standard output: lambdanets recipes slurm … --data.root DIR --out DIR > run.sh, then sbatch run.sh."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Take all words as they are: behind `slurm` the settings of a recipe are allowed."""
    parser.add_argument("words", nargs="*")


def main(arguments: argparse.Namespace) -> None:
    """Print the list or the script."""
    words = arguments.words
    if {"-h", "--help"} & set(words):
        print(_USAGE)
    elif words[:1] == ["slurm"]:
        print(_slurm(words[1:]), end="")
    else:
        print(_listed(words))


def _listed(words: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(prog="lambdanets recipes", usage=_USAGE.partition("usage: ")[2])
    parser.add_argument("pattern", nargs="?", default="*")
    parser.add_argument("--format", choices=FORMATS, default="text")
    given = parser.parse_args(words)
    names = [name for name in RECIPES if fnmatchcase(name, given.pattern)]
    if not names:
        raise ArgumentError(
            f"recipes: pattern must fit one of {len(RECIPES)} recipes, got {given.pattern!r}."
            " `lambdanets recipes` lists them all."
        )
    return FORMATS[given.format](names)


def to_text(names: Sequence[str]) -> str:
    """A line for each recipe."""
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {describe_recipe(name)['Summary']}" for name in names]
    return "\n".join([*lines, f"{len(names)} recipes"])


def to_markdown(names: Sequence[str]) -> str:
    """A table: what each recipe trains, what is expected of it, and where the paper has it."""
    rows = [
        ("recipe", "network", "pixels", "epochs", "batch", "expected", "paper"),
        ("---",) * 7,
        *(_row(name) for name in names),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


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


FORMATS: dict[str, Callable[[Sequence[str]], str]] = {"text": to_text, "markdown": to_markdown}


def _slurm(words: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(
        prog="lambdanets recipes slurm", usage=_USAGE.splitlines()[1].strip(), allow_abbrev=False
    )
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--gpus-per-node", type=int, required=True)
    parser.add_argument("--time", default="24:00:00")
    given, train_words = parser.parse_known_args(words)
    if not train_words:
        raise ArgumentError(f"recipes: slurm must be given a recipe, got none. One of {', '.join(RECIPES)}.")
    config = parse(train_words).config
    return slurm_script(
        config, train_words, nodes=given.nodes, gpus_per_node=given.gpus_per_node, time=given.time
    )
