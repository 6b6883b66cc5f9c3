"""Data sets of one's own: classes that are registered, checked before anything is trained on them."""

import dataclasses
import inspect
import json
import re
from typing import TypeVar

from lambdanets.data.config import DATA_SETS, DataConfig, read_data_config
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.extensions import claim

Data = TypeVar("Data", bound=DataConfig)


def register_data_set(kind: type[Data]) -> type[Data]:
    """Register a data set of your own, as a decorator of its settings.

    It is then known by its name to `lambdanets.train` and, by `--import MODULE`, to every command:
    `--data.name NAME`, and its settings as further options.

    The class is a frozen dataclass of settings that JSON can hold, each with a default; `name` is the name.
    Its `load` returns a `lambdanets.data.task.Task`: `train` is any `TrainingData`, `test` any `TestData`,
    with the `labels` and the channels of the images. docs/python.md has an example.

    Args:
        kind: A class derived from `DataConfig`, below which `@dataclass(frozen=True, kw_only=True)` stands.

    Returns:
        The class.

    Raises:
        ArgumentTypeError: It is not such a class.
        ArgumentError: The name is taken or no name, or JSON cannot hold the settings.
    """
    if not (inspect.isclass(kind) and issubclass(kind, DataConfig)):
        raise ArgumentTypeError(
            f"register_data_set: data set must be a class derived from DataConfig, got {kind!r}."
        )
    who = f"register_data_set: {kind.__name__}"
    if "__dataclass_fields__" not in vars(kind):
        raise ArgumentTypeError(
            f"{who} must be a dataclass, got a plain class. Write @dataclass(frozen=True, kw_only=True) below"
            " @register_data_set."
        )
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise ArgumentTypeError(f"{who} must define {', '.join(missing)}, got a class without.")
    fields = dataclasses.fields(kind)
    unset = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if unset:
        raise ArgumentTypeError(
            f"{who} must have a default for every setting, got none for {', '.join(unset)}."
        )
    settings: DataConfig = kind()  # type: ignore[call-arg]  # every setting has a default
    if not (isinstance(settings.name, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", settings.name)):
        raise ArgumentError(
            f"{who}: name must be a default of small letters, digits and hyphens, got {settings.name!r}."
        )
    before = dict(DATA_SETS)
    DATA_SETS[settings.name] = kind
    try:
        _check_trip(who, settings)
        claim("register_data_set", "data set", settings.name, kind, before)
    except Exception:
        DATA_SETS.clear()
        DATA_SETS.update(before)
        raise
    return kind


def _check_trip(who: str, settings: DataConfig) -> None:
    """Raise unless config.json can hold the settings."""
    try:
        came_back = read_data_config(json.loads(json.dumps(dataclasses.asdict(settings))))
    except TypeError as error:
        raise ArgumentTypeError(
            f"{who} must have settings that JSON can hold, got '{error}'. A path is a str there."
        ) from error
    if came_back != settings:
        raise ArgumentTypeError(
            f"{who} must be equal after a trip through JSON, got {came_back} for {settings}."
        )
