"""The options of a command, made by tyro from the parameters of its function."""

import dataclasses
import inspect
import io
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import tyro

from lambdanets.cli._examples import examples
from lambdanets.cli._paths import reading_paths
from lambdanets.cli._ranges import SHOWING_RANGES
from lambdanets.data.config import DataConfig, switched
from lambdanets.data.detection import CocoConfig
from lambdanets.errors import ArgumentError, DataError, PathError
from lambdanets.extensions import with_imports
from lambdanets.models.config import Window
from lambdanets.ranges import check_settings, fitted
from lambdanets.recipes import (
    describe_recipe,
    fit_recipe,
    get_recipe,
    is_fitted,
    recipes_of,
    replace_data,
    smoke_run,
)
from lambdanets.runs.init_source import model_to_start_with, with_model_of_weights
from lambdanets.streams import print_error, print_line
from lambdanets.terminal import fill, pairs
from lambdanets.text import is_shown_whole
from lambdanets.training.changes import flatten
from lambdanets.training.config import DetectConfig, ModelConfig, RunConfig, TrainConfig


class _Shown:
    """Marks settings of a data set without those that are no options, as a class derived from both."""


@dataclass(frozen=True)
class DefaultFrom:
    """Marks a parameter whose default follows from the arguments of the command."""

    make: Callable[[Sequence[str]], Any]


# How to print results. `--json` is short for `--format json`.
Format = Literal["text", "json"]

# What a recipe chose by its data, and why.
Choices = Annotated[dict[str, str], DefaultFrom(lambda argv: {}), tyro.conf.Suppress]

# The arguments of the command as they were typed, with the modules that were imported for it.
Argv = Annotated[tuple[str, ...], DefaultFrom(with_imports), tyro.conf.Suppress]

# The name of a recipe as the first argument, and the recipe's settings as options.
Recipe = Annotated[TrainConfig, "recipe"]
DetectRecipe = Annotated[DetectConfig, "recipe"]
AnyRecipe = Annotated[RunConfig, "recipe"]
_RECIPES: Final = (Recipe, DetectRecipe, AnyRecipe)

# Keyword arguments of `create_model` as pairs.
Overrides = Annotated[dict[str, int | float | bool | str | None], DefaultFrom(lambda argv: {})]

_POSITIONAL: Final = inspect.Parameter.POSITIONAL_ONLY
_CONFIG: Final = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)


def call(function: Callable[..., int | None], argv: Sequence[str], command: str) -> int | None:
    """Parse arguments by the signature of a command's function, and call the function.

    Parameters before `/` are positional. A function whose only parameter is `argv` gets them unparsed.

    Args:
        function: The command; its docstring is the help.
        argv: The arguments.
        command: Name of the command.
    """
    signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    if [*signature.parameters] == ["argv"]:
        return function(tuple(argv))
    if "json" in get_args(hints.get("format")):
        argv = ["--format=json" if argument == "--json" else argument for argument in argv]
    argv = _without_repeats(signature, argv)
    recipe: RunConfig | None = None
    choices: dict[str, str] = {}
    for trained in (hint.__origin__ for hint in hints.values() if hint in _RECIPES):
        if argv[:1] in ([], ["-h"], ["--help"]):
            print_line(f"{_usage(command, trained)}\n{examples(command)}")
            return 0
        recipe, choices = _named_recipe(argv, command, trained)
    options = _parsed(options_record(function, argv, recipe), argv, command, recipe)
    values = _checked(options, hints, command)
    positional: list[Any] = []
    for parameter in signature.parameters.values():
        if parameter.kind is _POSITIONAL:
            value = values.pop(parameter.name)
            if value == () and parameter.default is parameter.empty:
                raise ArgumentError(f"{command}: {parameter.name} must be given, got none.")
            positional.append(value)
    if recipe:
        values |= {name: choices for name, hint in hints.items() if hint == Choices}
        settings = values["config"]
        model = replace(settings.model, overrides={**recipe.model.overrides, **settings.model.overrides})
        values["config"] = replace(
            recipe, **{**vars(settings), "data": _placed(settings.data), "model": model}
        )
    return function(*positional, **values)


def _checked(options: Any, hints: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The arguments of a function by name, each of its type and in its range."""
    values = {name: _placed(value) for name, value in vars(options).items()}
    for name, value in values.items():
        if hints[name] not in _RECIPES:
            values[name] = fitted(command, name, value, hints[name])
        if dataclasses.is_dataclass(value):
            check_settings(value, command)
    return values


def _parsed(record: Any, argv: Sequence[str], command: str, recipe: RunConfig | None) -> Any:
    """Parse arguments into a record; help ends with examples."""
    # The parser repeats what it does not understand.
    said, is_plain = io.StringIO(), all(map(is_shown_whole, argv))
    try:
        echo = nullcontext() if is_plain else redirect_stderr(said)
        with SHOWING_RANGES, reading_paths(argv, command), echo:
            return tyro.cli(
                record,
                args=argv[1:] if recipe else argv,
                prog=" ".join(["lambdanets", command, *([recipe.recipe] if recipe else [])]),
                description=describe_recipe(recipe.recipe)["Summary"] if recipe else None,
                config=_CONFIG,
            )
    except SystemExit as stop:
        if said.getvalue():
            print_error(said.getvalue())
        if not stop.code:
            print_line(examples(command))
        raise


def options_record(function: Callable[..., object], argv: Sequence[str], recipe: RunConfig | None) -> Any:
    """Make the dataclass whose fields are the parameters of a command, as tyro reads it.

    Args:
        function: The command.
        argv: The arguments, which decide about some defaults.
        recipe: The recipe of a command that has one: its settings are options too.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    fields = [_field(one, hints[one.name], argv, recipe) for one in parameters]
    kind: Any = dataclasses.make_dataclass(function.__name__, fields, kw_only=True)
    kind.__doc__ = function.__doc__
    return kind


def recipes_of_command(function: Callable[..., object]) -> tuple[str, ...]:
    """Names of the recipes that a command takes as its first argument; none for most commands."""
    hints = get_type_hints(function, include_extras=True).values()
    return tuple(name for hint in hints if hint in _RECIPES for name in recipes_of(hint.__origin__))


def _named_recipe(
    argv: Sequence[str], command: str, kind: type[RunConfig]
) -> tuple[RunConfig, dict[str, str]]:
    """Return the recipe that comes first, with other defaults by `--fast`, `--data.name` and the data.

    Beside it what was chosen by the data, and why.
    """
    if argv[0].startswith("-"):
        raise ArgumentError(
            f"{command}: recipe must come first, got {argv[0]!r}. One of {', '.join(recipes_of(kind))}."
        )
    config = get_recipe(argv[0], kind)
    if not isinstance(config, TrainConfig):
        return config, {}
    if "--fast" in argv:
        # The flag itself sets `fast`; what it stands for are other defaults.
        config = replace(smoke_run(config), fast=False)
    config, choices = replace_data(config, value_of("--data.name", argv), value_of("--data.root", argv))
    config = replace(config, model=_named_model(config, argv))
    if not is_fitted(config.recipe):
        return config, choices
    try:
        config, more = fit_recipe(*_with_given(config, argv))
    except (PathError, DataError):
        if not {"-h", "--help"} & {*argv}:
            raise
        more = {}
    return config, choices | more


def _with_given(config: TrainConfig, argv: Sequence[str]) -> tuple[TrainConfig, set[str]]:
    """Set what is given among the settings that a recipe may choose others by; beside it, the dotted names.

    Values that cannot be understood are left to the parser, whose message is better.
    """
    given = given_settings(config, argv)
    for name, old in flatten(config).items():
        value = value_of(f"--{name.replace('_', '-')}", argv)
        if value is None:
            continue
        group, _, setting = name.rpartition(".")
        with suppress(ValueError, TypeError):
            kind: Any = type(old)
            settings = {setting: kind(value)}
            if group == "sched":
                # It is chosen by the epochs.
                settings = {"warmup_epochs": 0.0, **settings}
            config = replace(
                config, **{group: replace(getattr(config, group), **settings)} if group else settings
            )
    return replace(config, data=config.data.located()), given


def given_settings(config: RunConfig, argv: Sequence[str]) -> set[str]:
    """Find the dotted names of the settings that arguments give.

    Args:
        config: Any config of the same kind and data set.
        argv: The arguments.
    """
    words = {_hyphenated(word).partition("=")[0] for word in argv}
    given = set()
    for name in flatten(config):
        group, dot, setting = name.replace("_", "-").rpartition(".")
        # Those that are on by default are turned off by another name.
        if words & {f"--{group}{dot}{setting}", f"--{group}{dot}no-{setting}"}:
            given.add(name)
    if "--gpus" in words:
        given.add("exec.device")
    return with_model_of_weights(given)


def _named_model(config: TrainConfig, argv: Sequence[str]) -> ModelConfig:
    """Return the network that a training has by default: that of the weights it starts with, if any."""
    init = value_of("--init", argv)
    if init is None or value_of("--model.name", argv) is not None:
        return config.model
    out = value_of("--out", argv) or str(Path("runs", config.recipe))
    return model_to_start_with(init, Path(out)) or config.model


def named_data(data: DataConfig, argv: Sequence[str]) -> DataConfig:
    """Replace a data set by the one that `--data.name` names: each has options of its own."""
    name = value_of("--data.name", argv)
    return data if name is None else switched(data, name)


def value_of(option: str, argv: Sequence[str]) -> str | None:
    """Find the value of an option among arguments that are not parsed yet."""
    text = "\n".join(map(_hyphenated, argv))
    found = re.findall(rf"^{re.escape(option)}[=\n](.*)$", text, re.MULTILINE)
    return found[-1] if found else None


def _hyphenated(word: str) -> str:
    """An option as it is listed; tyro takes it with underscores too."""
    option, equals, value = word.partition("=")
    return f"{option.replace('_', '-')}{equals}{value}" if word.startswith("--") else word


def _without_repeats(signature: inspect.Signature, argv: Sequence[str]) -> Sequence[str]:
    for parameter in signature.parameters.values():
        if parameter.kind is not _POSITIONAL and parameter.default == ():
            argv = _joined(f"--{parameter.name.replace('_', '-')}", argv)
    return argv


def _joined(option: str, argv: Sequence[str]) -> Sequence[str]:
    """Put all values of an option that is given several times behind one: `--run A --run B` is `A B`."""
    if sum(word.partition("=")[0] == option for word in argv) < 2:
        return argv
    values: list[str] = []
    others: list[str] = []
    kept = others
    for word in argv:
        name, equals, value = word.partition("=")
        if name == option:
            values += [value] if equals else []
            kept = values
        else:
            kept = others if word.startswith("-") else kept
            kept.append(word)
    return [*others, option, *values]


def _field(
    parameter: inspect.Parameter, hint: Any, argv: Sequence[str], recipe: RunConfig | None
) -> tuple[str, Any, Any]:
    default = parameter.default
    if hint in _RECIPES:
        default = _settings(recipe) if recipe else None
        hint = Annotated[type(default), tyro.conf.arg(name="")]
    if parameter.kind is _POSITIONAL:
        positional: Any = tyro.conf.Positional
        # Tyro calls any number of values optional, and shows an empty default.
        behaviour = {parameter.empty: "(required)", (): "(optional)"}.get(default)
        argument = tyro.conf.arg(metavar=parameter.name.upper(), help_behavior_hint=behaviour)
        hint = positional[Annotated[hint, argument]]
    for marker in getattr(hint, "__metadata__", ()):
        if isinstance(marker, DefaultFrom):
            default = marker.make(argv)
    if parameter.kind is not _POSITIONAL and default in ((), {}):
        hint = Annotated[hint, tyro.conf.arg(help_behavior_hint="(optional)")]
    if default is parameter.empty:
        return parameter.name, hint, dataclasses.field()
    if isinstance(default, DataConfig):
        default = _shown(default)
    return parameter.name, hint, dataclasses.field(default_factory=lambda: default)


def _settings(recipe: RunConfig) -> Any:
    """Hold the settings of a recipe that are options, all but its name, in a record for tyro."""
    data = _shown(recipe.data)
    hints = get_type_hints(type(recipe), include_extras=True) | {"data": type(data)}
    del hints["recipe"]
    kind = dataclasses.make_dataclass("Settings", hints.items(), frozen=True, kw_only=True)
    kind.__doc__ = "Settings.\n\nAttributes:\n" + "".join(
        (inspect.getdoc(one) or "").partition("Attributes:\n")[2] + "\n" for one in (RunConfig, type(recipe))
    )
    # Tyro changes the entries of a dictionary, but adds none.
    changed = {"model": replace(recipe.model, overrides={}), "data": data}
    return kind(**{name: getattr(recipe, name) for name in hints} | changed)


def _shown(data: DataConfig | CocoConfig) -> Any:
    """The settings of a data set that are options: those that are compared."""
    hidden = [
        (one.name, Annotated[Any, tyro.conf.Suppress], dataclasses.field(default=one.default))
        for one in dataclasses.fields(data)
        if not one.compare
    ]
    kind: Any = dataclasses.make_dataclass(
        type(data).__name__, hidden, bases=(type(data), _Shown), frozen=True, kw_only=True
    )
    kind.__doc__ = type(data).__doc__
    return kind(**vars(data))


def _placed(value: Any) -> Any:
    """Settings of a data set as they are stored, with a root that any working directory finds."""
    if isinstance(value, _Shown):
        value = type(value).__bases__[0](**vars(value))
    return value.located() if isinstance(value, DataConfig | CocoConfig) else value


def _usage(command: str, kind: type[RunConfig]) -> str:
    names = recipes_of(kind)
    recipes = {
        name: "{Summary}\n{Expected} {Cost}".format_map(defaultdict(str, describe_recipe(name))).strip()
        for name in names
    }
    return f"usage: lambdanets {command} RECIPE [options]\n\nrecipes:\n{pairs(recipes, indent=2)}\n\n" + fill(
        f"The options of one: lambdanets {command} {names[0]} --help"
    )


def print_json(value: object) -> None:
    """Print a result as JSON: paths as strings, and null for a number that is not finite."""
    print_line(to_json(value))


def to_json(value: object, indent: int | None = 2) -> str:
    """Write a result as JSON, as `print_json` prints it; what a terminal obeys as escapes."""
    plain = _plain(value)
    text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)
    return text if is_shown_whole(text) else json.dumps(plain, indent=indent, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def without_format(argv: Sequence[str]) -> list[str]:
    """Leave `--format`, with its value, and `--json` out of the arguments of a command."""
    words = iter(argv)
    kept = []
    for word in words:
        if word == "--format":
            next(words, None)
        elif word != "--json" and not word.startswith("--format="):
            kept.append(word)
    return kept


def parse_size(text: str, argument: str, most: int) -> tuple[int, ...]:
    """Parse a size such as 28, 28x28 or 8x14x14.

    Args:
        text: The size.
        argument: The command and the option, for the message.
        most: Largest number of sides.
    """
    # A number of more digits is out of range too.
    sides = tuple(int(side[:9]) if side.isdecimal() else 0 for side in text.lower().split("x"))
    if len(sides) > most or min(sides) < 1:
        raise ArgumentError(f"{argument} must be up to {most} positive numbers such as 28x28, got {text!r}.")
    who, _, name = argument.partition(": ")
    return tuple(fitted(who, name, side, Window) for side in sides)
