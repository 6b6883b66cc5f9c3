"""A data set of one's own is registered once, checked, and known by its name."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lambdanets
from lambdanets.data.augment import AugmentConfig
from lambdanets.data.config import DATA_SETS, DataConfig
from lambdanets.data.task import Task
from lambdanets.errors import ArgumentError, ArgumentTypeError, DependencyError
from lambdanets.extensions import origin_of
from lambdanets.training.config import RunConfig

pytestmark = pytest.mark.usefixtures("as_registered")


class Loads:
    def load(self, *, seed: int, augment: AugmentConfig, max_unreadable: int = 50) -> Task:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Bars(Loads, DataConfig):
    name: str = "bars"
    lengths: tuple[int, ...] = (3, 4)


def test_a_registered_data_set_is_a_setting_and_makes_the_trip_through_json() -> None:
    assert lambdanets.register_data_set(Bars) is Bars
    config = lambdanets.get_recipe("digits").replace(data={"name": "bars", "lengths": [5]})
    assert config.data == Bars(lengths=(5,))
    assert RunConfig.from_json(config.to_json()) == config
    # What registered it is written down beside the settings.
    assert json.loads(config.to_json())["imports"] == [__name__]


def test_a_cell_that_is_run_again_registers_the_class_again() -> None:
    def cell() -> type[DataConfig]:
        @lambdanets.register_data_set
        @dataclass(frozen=True, kw_only=True)
        class Again(Loads, DataConfig):
            name: str = "again"

        return Again

    first, second = cell(), cell()
    assert first is not second
    assert DATA_SETS["again"] is second


def test_a_taken_name_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Mine(Loads, DataConfig):
        name: str = "digits"

    message = (
        "register_data_set: name must be free, got 'digits', which lambdanets.data.config.DigitsConfig has"
    )
    with pytest.raises(ArgumentError, match=re.escape(message)):
        lambdanets.register_data_set(Mine)


def test_nothing_is_left_of_settings_that_refuse_what_came_back() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Strict(Loads, DataConfig):
        name: str = "strict"
        counts: dict[int, int] = field(default_factory=lambda: {1: 2})

        def __post_init__(self) -> None:
            # JSON makes it a word.
            if 1 not in self.counts:
                raise ArgumentError("counts must hold 1")

    with pytest.raises(ArgumentError, match="counts must hold 1"):
        lambdanets.register_data_set(Strict)
    assert "strict" not in DATA_SETS
    assert origin_of("data set", "strict") is None


def plain() -> Any:
    class Plain(Bars):
        pass

    return Plain


def abstract() -> Any:
    @dataclass(frozen=True, kw_only=True)
    class Abstract(DataConfig):
        name: str = "abstract"

    return Abstract


def unset() -> Any:
    @dataclass(frozen=True, kw_only=True)
    class Unset(Loads, DataConfig):
        name: str = "unset"
        length: int

    return Unset


def nameless() -> Any:
    @dataclass(frozen=True, kw_only=True)
    class Nameless(Loads, DataConfig):
        name: str = "Name Less"

    return Nameless


def unstored() -> Any:
    @dataclass(frozen=True, kw_only=True)
    class Unstored(Loads, DataConfig):
        name: str = "unstored"
        folder: Path = Path()

    return Unstored


def changed() -> Any:
    @dataclass(frozen=True, kw_only=True)
    class Changed(Loads, DataConfig):
        name: str = "changed"
        numbers: dict[int, int] = field(default_factory=lambda: {1: 2})

    return Changed


WRONG = {
    "register_data_set: data set must be a class derived from DataConfig, got <class 'int'>.": lambda: int,
    "register_data_set: Plain must be a dataclass, got a plain class. Write @dataclass(frozen=True": plain,
    "register_data_set: Abstract must define load, got a class without.": abstract,
    "register_data_set: Unset must have a default for every setting, got none for length.": unset,
    "register_data_set: Nameless: name must be a default of small letters, digits and hyphens, got": nameless,
    "register_data_set: Unstored must have settings that JSON can hold, got 'Object of type": unstored,
    "register_data_set: Changed must be equal after a trip through JSON, got ": changed,
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_data_set_is_refused(message: str) -> None:
    known = dict(DATA_SETS)
    with pytest.raises((ArgumentTypeError, ArgumentError), match=re.escape(message)):
        lambdanets.register_data_set(WRONG[message]())
    assert known == DATA_SETS


def test_a_stored_config_says_what_registers_its_data_set() -> None:
    lambdanets.register_data_set(Bars)
    stored = lambdanets.get_recipe("digits").replace(data={"name": "bars"}).to_json()
    del DATA_SETS["bars"]
    message = (
        "data set 'bars' must be registered, got none of that name. It comes from a module of your own: add"
        f" --import {__name__}, or import that module first in Python."
    )
    with pytest.raises(DependencyError, match=re.escape(message)):
        RunConfig.from_json(stored)


def test_an_unknown_data_set_may_be_one_s_own() -> None:
    message = "A data set of your own is known after --import MODULE, in Python after its import."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        lambdanets.get_recipe("digits").replace(data={"name": "bars"})
