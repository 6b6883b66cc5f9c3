"""Every number of a setting has a range, in its type; what is out of it, or of another kind, is refused."""

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy
import pytest

from lambdanets.data.augment import AugmentConfig, PseudoConfig
from lambdanets.data.config import DATA_SETS, SemiConfig
from lambdanets.data.detection import CocoConfig, JitterConfig, SceneConfig
from lambdanets.data.preprocessing import Foreground, Preprocessing
from lambdanets.detection.predict import Tiling
from lambdanets.errors import ArgumentError, ArgumentTypeError
from lambdanets.models.config import LambdaConfig, MobileNetConfig, ResNetConfig
from lambdanets.pseudo.settings import LabelConfig, LabelRules
from lambdanets.ranges import Range, fitted
from lambdanets.recipes import get_recipe
from lambdanets.runs.evaluate import EvalSettings
from lambdanets.runs.other_data import OtherData
from lambdanets.training.config import RunConfig
from support.hostile import VALUES, numbers_in, tried

RUNS = [get_recipe("digits"), get_recipe("scenes-demo", RunConfig)]
CONFIGS: dict[str, Any] = {
    type(config).__name__: config
    for config in (
        *RUNS,
        *(group for run in RUNS for group in vars(run).values() if dataclasses.is_dataclass(group)),
        *(kind() for kind in DATA_SETS.values()),
        *(AugmentConfig(), PseudoConfig(labels="labels"), CocoConfig(), JitterConfig(), SceneConfig()),
        *(LabelRules(), LabelConfig(teacher="timm:x", data=SemiConfig())),
        *(Foreground(), Preprocessing(size=8), EvalSettings(), OtherData(), Tiling()),
        *(LambdaConfig(), ResNetConfig(), MobileNetConfig()),
    )
}
# Numbers of blocks, whose range is the network's depth.
BY_HAND = {("ResNetConfig", "lambda_blocks"), ("MobileNetConfig", "lambda_blocks")}
SETTINGS = [(name, field) for name, config in CONFIGS.items() for field in dataclasses.fields(config)]


def parts(hint: Any, bounds: Range | None = None) -> Iterator[tuple[Any, Range | None]]:
    """The plain types in a type, each with the range around it."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        own = [mark for mark in marks if isinstance(mark, Range)]
        yield from parts(inner, own[0] if own else bounds)
    elif get_origin(hint) is None:
        yield hint, bounds
    elif get_origin(hint) is not Literal:
        for one in get_args(hint):
            yield from parts(one, bounds)


RANGED = [
    (name, field.name, kind, bounds)
    for name, field in SETTINGS
    for kind, bounds in parts(field.type)
    if bounds is not None and kind in (int, float)
]


def test_every_number_of_every_config_has_a_range() -> None:
    assert len(CONFIGS) == 32 and len(RANGED) > 100
    bare = {
        (name, field.name)
        for name, field in SETTINGS
        for kind, bounds in parts(field.type)
        if kind in (int, float) and bounds is None and field.name != "overrides"
    }
    assert bare == BY_HAND


def test_every_default_is_in_its_range() -> None:
    """They are not looked at each time that a config is made."""
    for _, field in SETTINGS:
        if field.default is not dataclasses.MISSING:
            assert fitted("test", field.name, field.default, field.type) is field.default


@pytest.mark.parametrize(("name", "setting", "kind", "bounds"), RANGED)
def test_the_ends_of_a_range(name: str, setting: str, kind: Any, bounds: Range) -> None:
    hint = Annotated[kind, bounds]
    for end, outward in ((bounds.low, -1), (bounds.high, 1)):
        number = kind(end)
        beyond = number + outward if kind is int else math.nextafter(number, outward * math.inf)
        inward = number - outward if kind is int else math.nextafter(number, -outward * math.inf)
        assert fitted(name, setting, inward, hint) == inward
        is_open = bounds.open in ("both", "low" if outward < 0 else "high")
        if not is_open:
            assert fitted(name, setting, number, hint) == number
        for outside in (beyond, *([number] if is_open else [])):
            with pytest.raises(ArgumentError, match=rf"^{name}: {setting} must .*, got "):
                fitted(name, setting, outside, hint)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_value_is_one_sentence_or_fits(name: str, unchecked: None) -> None:
    config = CONFIGS[name]
    for field in dataclasses.fields(config):
        refused = 0
        for value in VALUES:
            made, text = tried(dataclasses.replace, config, **{field.name: value})
            if text is None:
                kept = getattr(made, field.name)
                assert all(abs(number) < 2**63 for number in numbers_in(kept)) or field.name == "overrides"
                is_bool = isinstance(value, bool) and not isinstance(kept, bool)
                assert not is_bool, f"{field.name}: {kept}"
            else:
                assert text.startswith(f"{name}: "), text
                refused += 1
        assert refused > 3, field.name


MESSAGES: list[tuple[Any, Any, str]] = [
    (0, Annotated[int, Range(1, 10**6)], "must be at least 1, got 0."),
    (2**64, Annotated[int, Range(1, 10**6)], "must be at most 1,000,000, got 18446744073709551616."),
    (0.0, Annotated[float, Range(0, 30, "low")], "must be positive, got 0.0."),
    (math.nan, Annotated[float, Range(0, 30, "low")], "must be positive, got nan."),
    (1, Annotated[float, Range(2, 30, "low")], "must be above 2, got 1."),
    (30.0, Annotated[float, Range(0, 30, "high")], "must be below 30, got 30.0."),
    (10**400, Annotated[float, Range(0, 30)], "must be at most 30, got 1000"),
    (2, Annotated[float, Range(0, 1)], "must lie between 0 and 1, got 2."),
    (math.nan, Annotated[float, Range(0, 1, "both")], "must lie between 0 and 1, both excluded, got nan."),
    (0.0, Annotated[float, Range(0, 1, "low")], "must be positive and at most 1, got 0.0."),
    (1.0, Annotated[float, Range(0, 1, "high")], "must be at least 0 and below 1, got 1.0."),
    ((0.5, 2.0), tuple[Annotated[float, Range(0, 1)], ...], "must lie between 0 and 1, got (0.5, 2.0)."),
    ((1, 2, 3), tuple[int, int], "must be a list of 2 int, got (1, 2, 3)."),
    ("gren", Literal["red", "green"], "must be one of 'red', 'green', got 'gren'. Closest: green."),
]
KINDS: list[tuple[Any, Any, str]] = [
    (True, Annotated[int, Range(0, 9)], "must be int, got True."),
    (1.0, int, "must be int, got 1.0."),
    ("1", float | None, "must be float or None, got '1'."),
    (1, bool, "must be bool, got 1."),
    ({"a": 1}, str, "must be str, got {'a': 1}."),
    ("12", tuple[int, ...], "must be a list of int, got '12'."),
    ([1, "2"], tuple[int, ...], "must be a list of int, got [1, '2']."),
    (3, Literal["red", "green"], "must be one of 'red', 'green', got 3."),
    (3, dict[str, int], "must be a dictionary, got 3."),
    ("x" * 200, int, f"must be int, got '{'x' * 79}…."),
]


@pytest.mark.parametrize(("value", "hint", "message"), MESSAGES)
def test_what_is_out_of_range_is_said(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^who: what {re.escape(message)}"):
        fitted("who", "what", value, hint)


@pytest.mark.parametrize(("value", "hint", "message"), KINDS)
def test_what_is_of_another_kind_is_said(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^who: what {re.escape(message)}$"):
        fitted("who", "what", value, hint)


def test_a_number_too_long_to_write_is_refused_too() -> None:
    message = r"^who: what must be at most 30, got one that is too long to show\.$"
    with pytest.raises(ArgumentError, match=message):
        fitted("who", "what", 10**5000, Annotated[int, Range(0, 30)])


@pytest.mark.parametrize(
    ("value", "hint", "found"),
    [
        (numpy.int64(3), int, 3),
        (numpy.float32(0.5), float, 0.5),
        (3, float, 3.0),
        (Path("a"), str, "a"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([8, 9], int | tuple[int, int], (8, 9)),
        ({"c4": [1]}, dict[str, Any], {"c4": [1]}),
        (None, float | None, None),
    ],
)
def test_what_stands_for_a_value_becomes_it(value: Any, hint: Any, found: Any) -> None:
    made = fitted("who", "what", value, hint)
    assert made == found and type(made) is type(found)
