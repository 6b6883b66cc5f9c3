"""Names, shapes and dtypes of state dicts are those of the weights that are already out."""

from typing import Any

import pytest

import lambdanets
from golden.recorded import built, digest_of, load, shapes_of

STORED = load("state_dicts.json")
each_digest = pytest.mark.parametrize("stored", STORED["digests"], ids=lambda row: row["label"])
each_list = pytest.mark.parametrize("stored", STORED["tensors"], ids=lambda row: row["label"])

Row = dict[str, Any]


def test_every_stored_model_is_still_listed() -> None:
    assert {row["model"] for row in STORED["digests"]} <= set(lambdanets.list_models())


@each_digest
def test_a_model_has_the_stored_tensors(stored: Row) -> None:
    assert digest_of(stored) == {name: stored[name] for name in ("sha256", "parameters")}


@each_list
def test_a_layer_or_small_network_has_the_stored_tensors_name_by_name(stored: Row) -> None:
    assert shapes_of(built(stored)) == stored["tensors"]
