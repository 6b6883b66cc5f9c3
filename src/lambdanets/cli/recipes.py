"""`lambdanets recipes`: list the recipes."""

from fnmatch import fnmatchcase
from typing import Final, Literal

from lambdanets.errors import ArgumentError
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
