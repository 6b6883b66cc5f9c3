"""Settings by their names: compared, listed, shown as text, and changed, checked against their types."""

import dataclasses
import difflib
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_type_hints

from lambdanets.data.config import DataConfig, switched
from lambdanets.data.parts import PartsConfig
from lambdanets.errors import ArgumentError, did_you_mean
from lambdanets.ranges import fitted

if TYPE_CHECKING:
    from lambdanets.training.config import RunConfig

T = TypeVar("T")

# What else may differ from the run that is continued, beside its settings.
_OTHER_NAMES: Final = ("world_size", "data.classes", "data.images", "data.pseudo", "libraries", "processor")

_WIDTH: Final = 100
_INDENT: Final = 9


def differences(old: "RunConfig", new: "RunConfig") -> dict[str, tuple[object, object]]:
    """Compare two configs: dotted name -> (old value, new value) of what differs.

    How a root was typed makes no difference. Earlier versions stored it as it was typed.
    """
    before, after = flatten(old), flatten(new)
    for settings, config, other in ((before, new, after), (after, old, before)):
        typed = config.data.root_given if isinstance(config.data, PartsConfig) else None
        if typed is not None and settings.get("data.root") == typed:
            settings["data.root"] = other["data.root"]
    # Another data set has settings of its own.
    pairs = {name: (before.get(name), after.get(name)) for name in {**before, **after}}
    return {name: (old_value, value) for name, (old_value, value) in pairs.items() if old_value != value}


def check_allowed(allow: Collection[str], *configs: "RunConfig") -> None:
    """Raise unless every name of what may differ is that of a setting or one of `_OTHER_NAMES`.

    Args:
        allow: The names.
        configs: The settings of the run, and of the one that is continued: another data set has others.
    """
    known = [*dict.fromkeys(name for config in configs for name in flatten(config)), *_OTHER_NAMES]
    for name in allow:
        if name not in known:
            others = ", ".join(_OTHER_NAMES)
            raise ArgumentError(
                f"train: resume_allow must name settings of the run, or {others}, got {name!r}."
                f"{did_you_mean(name, known)}"
            )


def flatten(config: "RunConfig") -> dict[str, object]:
    """Every setting by its dotted name, such as `optim.learning_rate`."""
    return {name: value for name, value, _ in _settings(config)}


def non_defaults(config: "RunConfig") -> dict[str, object]:
    """The settings, by dotted name, that are not left at the defaults of their groups."""
    return {name: value for name, value, default in _settings(config) if value not in (default, {})}


def _settings(config: Any, prefix: str = "") -> Iterator[tuple[str, object, object]]:
    """The dotted name, value and default of every setting."""
    for setting in dataclasses.fields(config):
        if not setting.compare:
            continue
        value = getattr(config, setting.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value, f"{setting.name}.")
        else:
            yield f"{prefix}{setting.name}", value, setting.default


def changed(who: str, config: T, settings: Mapping[str, Any], group: str = "") -> T:
    """Return a config with other values of some settings.

    Args:
        who: The public function that was called.
        config: A frozen dataclass.
        settings: New values by name. A group of settings takes a dictionary, which changes some of them, or a
            whole object, which takes its place; a dictionary of model overrides is added to those there are.
            Another `name` of the data set changes the data set, and keeps the settings that both have.
        group: What stands before the names in messages, such as `sched.`.

    Raises:
        ArgumentError: A setting is unknown, with the nearest ones, or out of range.
        ArgumentTypeError: A value is of another type than the setting.
    """
    kind = type(config)
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind) if field.compare]  # type: ignore[arg-type]
    for name in settings:
        if name not in known:
            raise ArgumentError(
                f"{who}: {group}{name} must be a setting of {kind.__name__}, got an unknown one."
                f"{_nearest(config, name, group)}"
            )
    values = {
        name: _new_value(who, getattr(config, name), value, hints[name], f"{group}{name}")
        for name, value in settings.items()
    }
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _new_value(who: str, old: Any, value: Any, hint: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        if isinstance(old, DataConfig | PartsConfig):
            return _changed_data(who, old, value)
        if dataclasses.is_dataclass(old):
            return changed(who, old, value, f"{name}.")
        if isinstance(old, Mapping):
            return {**old, **value}
    return fitted(who, name, value, hint)


def _changed_data(
    who: str, data: DataConfig | PartsConfig, settings: Mapping[str, Any]
) -> DataConfig | PartsConfig:
    others = dict(settings)
    if isinstance(data, DataConfig) and (name := others.pop("name", data.name)) != data.name:
        data = switched(data, str(name))
    if "root" in others and isinstance(data, PartsConfig):
        # It is typed anew.
        data = dataclasses.replace(data, root_given=None)
    return changed(who, data, others, "data.")


def _nearest(config: Any, name: str, group: str) -> str:
    """Name the group of a setting that stands in one, or the settings that are spelled alike."""
    wanted = name.replace("__", ".")
    inside = [
        dotted
        for dotted, _, _ in _settings(config)
        if "." in dotted and wanted in (dotted, dotted.rpartition(".")[2])
    ]
    if inside:
        return f" Write {' or '.join(map(_as_argument, inside))}."
    if near := did_you_mean(name, [field.name for field in dataclasses.fields(config)]):
        return near
    inner = {dotted.rpartition(".")[2]: dotted for dotted, _, _ in _settings(config)}
    closest = difflib.get_close_matches(name, inner, n=1)
    return f" Closest: {_as_argument(inner[closest[0]])}." if closest else ""


def _as_argument(dotted: str) -> str:
    """A setting as it is written in a call."""
    group, _, setting = dotted.rpartition(".")
    return f'{group}={{"{setting}": …}}' if group else f"{setting}=…"


def described(config: Any) -> str:
    """Write a config for people: a line for each group, with the settings that are not at their defaults."""
    groups = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and (text := ", ".join(_set_values(value))):
            groups.append((field.name, text))
    own = [text for text in _set_values(config) if not text.startswith("recipe=")]
    lines = [f"{type(config).__name__} of the recipe {config.recipe}; what is not shown is at its default"]
    for name, text in [("", ", ".join(own)), *groups]:
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"{name:<{_INDENT}}",
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
        )
    return "\n".join(line.rstrip() for line in lines)


def _set_values(group: Any) -> list[str]:
    """The settings of one group, without those inside it, that are not at their defaults."""
    values = [(field, getattr(group, field.name)) for field in dataclasses.fields(group) if field.compare]
    return [
        f"{field.name}={value!r}"
        for field, value in values
        if not dataclasses.is_dataclass(value) and (field.name == "name" or value not in (field.default, {}))
    ]
