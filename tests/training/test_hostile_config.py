"""A config.json one of whose values is another: the config that it says, or one sentence."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdanets.data.config import DATA_SETS, switched
from lambdanets.errors import ArgumentError, ArgumentTypeError, DependencyError
from lambdanets.recipes import get_recipe
from lambdanets.training.config import RunConfig
from support.hostile import VALUES, tried

DIGITS = get_recipe("digits")
STORED = {
    "scenes-demo": get_recipe("scenes-demo", RunConfig),
    **{name: DIGITS.replace(data=switched(DIGITS.data, name)) for name in DATA_SETS},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(values: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from places(value, (*before, name))


def changed(values: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    other = copy.deepcopy(values)
    group = other
    for name in place[:-1]:
        group = group[name]
    group[place[-1]] = value
    return other


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [pytest.param("scenes-demo", marks=pytest.mark.slow), *DATA_SETS])
def test_a_config_with_one_hostile_value_is_refused_or_read(name: str) -> None:
    stored = json.loads(STORED[name].to_json())
    # The others are those of every run, whatever its data.
    for place in places(stored if name in ("scenes-demo", "digits") else {"data": stored["data"]}):
        refused = 0
        for value in VALUES:
            config, text = tried(RunConfig.from_dict, changed(stored, place, value))
            if text is None:
                # A number that is none is none of JSON's either.
                assert RunConfig.from_json(config.to_json()) == config or value != value
            else:
                refused += 1
        assert refused > 3 or place[-1] == "root_given" or len(place) == 3, place


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_config_is_refused() -> None:
    for value in VALUES:
        _, text = tried(RunConfig.from_dict, value)
        assert text is not None and text.startswith(("RunConfig: ", "TrainConfig: ")), value


PLACES = list(places(json.loads(DIGITS.to_json())))


@settings(deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
@pytest.mark.usefixtures("unchecked")
def test_any_value_of_json_is_refused_or_read(place: tuple[str, ...], value: Any) -> None:
    try:
        config = RunConfig.from_dict(changed(json.loads(DIGITS.to_json()), place, value))
    except (ArgumentError, ArgumentTypeError, DependencyError):
        return
    assert isinstance(config, RunConfig)
