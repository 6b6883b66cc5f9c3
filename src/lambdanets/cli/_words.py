"""The words that a shell may complete: commands, first arguments, options and their values."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import tyro

from lambdanets.cli import commands
from lambdanets.cli._options import options_record, recipes_of_command
from lambdanets.data.config import DATA_SETS, DataConfig, switched
from lambdanets.models.variants import list_models
from lambdanets.recipes import RECIPES, get_recipe
from lambdanets.training.config import RunConfig, TrainConfig

# Commands that hand their words to another one, with short names for some of its options.
_LIKE: Final = {"pseudo train": ("train", {"--labels": (), "--ratio": ()})}

# Arguments and options that are names.
_NAMES: Final[dict[str, Callable[[], Iterable[str]]]] = {
    "model": list_models,
    "source": list_models,
    "models pattern": list_models,
    "recipes pattern": lambda: RECIPES,
    "model.name": list_models,
}


class CommandWords(NamedTuple):
    """The words of a command.

    Attributes:
        first: What its first argument may be; empty for files.
        options: Every option with its values: none for files, numbers and text, None for a switch.
    """

    first: tuple[str, ...]
    options: Mapping[str, tuple[str, ...] | None]


def all_words() -> dict[str, CommandWords]:
    """Collect the words of every command."""
    return {name: _words_of(name) for name in commands()}


def _words_of(name: str) -> CommandWords:
    if name in _LIKE:
        other, short = _LIKE[name]
        words = _words_of(other)
        return words._replace(options={**words.options, **short})
    function = getattr(import_module(f"lambdanets.cli.{commands()[name][0]}"), name.split()[-1])
    recipes = recipes_of_command(function)
    options: dict[str, tuple[str, ...] | None] = {"--help": None, "--import": ()}
    for recipe in _forms(recipes):
        argv = ("--help",) if recipe is None else (recipe.recipe, "--help")
        record = options_record(function, argv, recipe)
        options |= dict(_options(record, None, "", _positional(function)))
    if "json" in (options.get("--format") or ()):
        options["--json"] = None
    return CommandWords(first=recipes or _first(name, function), options=options)


def _forms(recipes: tuple[str, ...]) -> Iterator[RunConfig | None]:
    """Configs that have all options between them: every data set brings its own."""
    if not recipes:
        yield None
        return
    config = get_recipe(recipes[0], RunConfig)
    yield config
    if isinstance(config, TrainConfig):
        yield from (dataclasses.replace(config, data=switched(config.data, name)) for name in DATA_SETS)


def _positional(function: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.POSITIONAL_ONLY]


def _first(name: str, function: Callable[..., object]) -> tuple[str, ...]:
    """The values of a command's first argument, where they are known."""
    for argument in _positional(function)[:1]:
        return _values(get_type_hints(function)[argument], f"{name} {argument}", argument)
    return ()


def _options(kind: Any, value: Any, prefix: str, hidden: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Walk through the fields of a dataclass as tyro does.

    Args:
        kind: The dataclass.
        value: An instance, for the defaults; None for those of the fields.
        prefix: Stands before each name.
        hidden: Fields that are no options.
    """
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint: Any = hints[field.name]
        marks: list[Any] = []
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
        if field.name in hidden or tyro.conf.Suppress in marks:
            continue
        own = [mark.name for mark in marks if getattr(mark, "name", None) is not None]
        name = prefix + (own[0] if own else field.name.replace("_", "-"))
        default = getattr(value, field.name) if value is not None else _default(field)
        if dataclasses.is_dataclass(default):
            yield from _options(type(default), default, f"{name}." if name else "", ())
        elif default is None and any(map(dataclasses.is_dataclass, get_args(hint))):
            # Its options come with the value of another option.
            continue
        elif hint is bool:
            start, _, last = name.rpartition(".")
            yield f"--{start}{'.' if start else ''}{'no-' if default else ''}{last}", None
        else:
            is_data_set = field.name == "name" and issubclass(kind, DataConfig)
            yield f"--{name}", tuple(DATA_SETS) if is_data_set else _values(hint, name)


def _default(field: Any) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _values(hint: Any, *names: str) -> tuple[str, ...]:
    """The values of an argument, by one of its names or by its type."""
    named = next((_NAMES[name] for name in names if name in _NAMES), None)
    return tuple(named()) if named else _choices(hint)


def _choices(hint: Any) -> tuple[str, ...]:
    """The values of a literal, also where it is optional."""
    if get_origin(hint) is Literal:
        return tuple(str(one) for one in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return tuple(one for part in get_args(hint) for one in _choices(part))
    return ()
