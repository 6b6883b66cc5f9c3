"""The numbers that a setting may be, said in its type, and one check of all settings of a config.

`seed: Annotated[int, Range(0, 9)]` is a setting with a range. What reads settings looks there:
`check_settings` for every frozen config, `fitted` for arguments, and the command line for its help.
"""

import dataclasses
import math
import numbers
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from lambdanets.errors import ArgumentError, ArgumentTypeError, check_choice

# What a message shows of a value.
_MOST_LETTERS: Final = 80


@dataclass(frozen=True)
class Range:
    """The numbers from one to another, as a mark of a type.

    Every range has an end: what is computed from a setting then stays finite, and a slip is named.

    Attributes:
        low: The least number.
        high: The largest.
        open: Which of the two are no longer inside.
    """

    low: int | float
    high: int | float
    open: Literal["", "low", "high", "both"] = ""

    def refusal(self, number: int | float) -> str | None:
        """Say what a number must be; None where it is inside. NaN never is."""
        is_above = number > self.low if self._opens("low") else number >= self.low
        is_below = number < self.high if self._opens("high") else number <= self.high
        if is_above and is_below:
            return None
        low, high = _written(self.low), _written(self.high)
        above = f"at least {low}"
        if self._opens("low"):
            above = f"above {low}" if self.low else "positive"
        below = f"below {high}" if self._opens("high") else f"at most {high}"
        if self.high > 1:
            return f"be {below if is_above else above}"
        # Both ends of a fraction have a meaning.
        if self.open in ("", "both"):
            return f"lie between {low} and {high}{', both excluded' if self.open else ''}"
        return f"be {above} and {below}"

    def around(self, kind: str) -> str:
        """Write the range around the name of a kind of number, as help shows it: `1<=INT<=64`."""
        low, high = ("<" if self._opens(end) else "<=" for end in ("low", "high"))
        return f"{self.low:.10g}{low}{kind}{high}{self.high:.10g}"

    def _opens(self, end: str) -> bool:
        return self.open in (end, "both")


# What torch and numpy take as a seed.
Seed = Annotated[int, Range(0, 2**63 - 1)]
# How many there are of something that takes time or memory one by one: epochs, images of a batch, files.
Count = Annotated[int, Range(1, 10**6)]
# Processes that read images, beside the one that there is, and those that work together: the largest machines
# have some hundred cores.
Workers = Annotated[int, Range(0, 4096)]
# Channels of a layer, and what is made of them: a 3×3 convolution of so many has 39 billion weights.
Channels = Annotated[int, Range(1, 2**16)]
# Side of an image: a square of so many pixels has 805 MB as floating-point numbers.
Side = Annotated[int, Range(8, 8192)]
Processes = Annotated[int, Range(1, 4096)]
Probability = Annotated[float, Range(0, 1)]
# Of something without which there is nothing: some is left.
Rate = Annotated[float, Range(0, 1, "high")]
Share = Annotated[float, Range(0, 1, "low")]
Decay = Annotated[float, Range(0, 1, "both")]
# Of learning rates, decays and lengths of vectors: their products are finite.
Scale = Annotated[float, Range(0, 1e6)]
PositiveScale = Annotated[float, Range(0, 1e6, "low")]


class _RefusedError(Exception):
    """Why a value does not fit, in the words behind `must`."""

    def __init__(self, requirement: str, error: type[Exception]) -> None:
        super().__init__(requirement)
        self.error = error


def check_settings(config: Any, who: str | None = None) -> None:
    """Check every setting of a frozen dataclass by its type, and make it that of its type: lists are tuples.

    Args:
        config: The dataclass.
        who: The public function that complains; the class unless given.

    Raises:
        ArgumentError: A number is out of its range, or a name none of those that there are.
        ArgumentTypeError: A value is of another kind.
    """
    for field in dataclasses.fields(config):
        old, default = getattr(config, field.name), field.default
        is_default = old is default or (type(old) is type(default) and old == default)
        # Defaults fit. A type that is written as text only its module knows.
        if not is_default and not isinstance(field.type, str):
            new = fitted(who or type(config).__name__, field.name, old, field.type)
            if new is not old:
                object.__setattr__(config, field.name, new)


def fitted(who: str, argument: str, value: Any, hint: Any) -> Any:
    """Return a value as a type has it, in its range: a path for a str, a list, a number of numpy will do.

    Args:
        who: The public function or class that complains.
        argument: The argument's name.
        value: What came.
        hint: The type, with or without a `Range`.

    Raises:
        ArgumentError: A number is out of its range, or a name none of those that there are.
        ArgumentTypeError: The value is of another kind.
    """
    if get_origin(hint) is Literal and isinstance(value, str):
        check_choice(who, argument, value, get_args(hint))
    try:
        return _fitted(value, hint)
    except _RefusedError as refused:
        raise refused.error(f"{who}: {argument} must {refused}, got {_shown(value)}.") from None


def _fitted(value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if origin in _COMPOSED:
        return _COMPOSED[origin](value, hint)
    if hint in _PLAIN:
        found = _PLAIN[hint](value)
        if found is None:
            raise _wrong_kind(hint)
        return found
    kind = origin or hint
    # Of what is no class nothing is known.
    if kind is not Any and isinstance(kind, type) and not isinstance(value, kind):
        raise _wrong_kind(hint)
    return value


def _wrong_kind(hint: Any) -> _RefusedError:
    return _RefusedError(f"be {spelled(hint)}", ArgumentTypeError)


def _annotated(value: Any, hint: Any) -> Any:
    found = _fitted(value, hint.__origin__)
    for mark in hint.__metadata__:
        for number in _numbers(found) if isinstance(mark, Range) else ():
            if (requirement := mark.refusal(number)) is not None:
                raise _RefusedError(requirement, ArgumentError)
    return found


def _one_of(value: Any, hint: Any) -> Any:
    """The value by the first of some types that it is of."""
    for kind in get_args(hint):
        try:
            return _fitted(value, kind)
        except _RefusedError as refused:
            if refused.error is ArgumentError:
                raise
    raise _wrong_kind(hint)


def _choice(value: Any, hint: Any) -> Any:
    if not any(type(value) is type(one) and value == one for one in get_args(hint)):
        raise _wrong_kind(hint)
    return value


def _items(value: Any, hint: Any) -> tuple[Any, ...]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise _wrong_kind(hint)
    items, kinds = tuple(value), get_args(hint)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(items) != len(kinds):
        raise _RefusedError(f"be {spelled(hint)}", ArgumentError)
    try:
        found = tuple(_fitted(one, kind) for one, kind in zip(items, kinds, strict=True))
    except _RefusedError as refused:
        raise refused if refused.error is ArgumentError else _wrong_kind(hint) from None
    is_same = isinstance(value, tuple) and all(one is new for one, new in zip(value, found, strict=True))
    return value if is_same else found


def _by_name(value: Any, hint: Any) -> Any:
    kind_of_name, kind = get_args(hint)
    if not isinstance(value, Mapping):
        raise _wrong_kind(hint)
    if kind_of_name is str and not all(isinstance(name, str) for name in value):
        raise _wrong_kind(hint)
    # What is in a `dict` is for another to check: the settings of a network, which are known with its name.
    is_checked = get_origin(hint) is not dict and kind is not Any
    return {name: _fitted(one, kind) for name, one in value.items()} if is_checked else value


_COMPOSED: Final[dict[Any, Callable[[Any, Any], Any]]] = {
    Annotated: _annotated,
    Union: _one_of,
    UnionType: _one_of,
    Literal: _choice,
    tuple: _items,
    dict: _by_name,
    Mapping: _by_name,
}


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, numbers.Real):
        yield value


def _integer(value: Any) -> int | None:
    return None if isinstance(value, bool) or not isinstance(value, numbers.Integral) else int(value)


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    number: Any = value
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _text(value: Any) -> str | None:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    return path if isinstance(path, str) else None


_PLAIN: Final[dict[Any, Callable[[Any], Any]]] = {
    bool: lambda value: value if isinstance(value, bool) else None,
    int: _integer,
    float: _float,
    str: _text,
}


def spelled(hint: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return spelled(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(map(spelled, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        length = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {length}{spelled(arguments[0])}"
    if origin in (dict, Mapping):
        return "a dictionary"
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"a dictionary or a {hint.__name__}"
    return "None" if hint in (None, NoneType) else getattr(hint, "__name__", str(hint))


def _shown(value: Any) -> str:
    """A value in a message: the beginning of a long one."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python writes no number of more than 4,300 digits, and no list that is nested too deep.
        text = "one that is too long to show"
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def _written(number: int | float) -> str:
    """A bound in a message: `1,000,000`."""
    return f"{int(number):,}" if number == int(number) else f"{number:g}"
