"""A layer's `key_normalization`: a name, a callable of the user's own, or what makes a module."""

import functools
from typing import Any

from torch import nn

from lambdanets.errors import ArgumentError, first_line
from lambdanets.functional._keys import (
    KeyNormalizer,
    check_key_normalization,
    check_normalizer,
    normalization_name,
    takes,
)
from lambdanets.notation import KeyNormalization


def make_key_normalization(
    who: str, given: KeyNormalization | KeyNormalizer, *, causal: bool = False
) -> KeyNormalization | KeyNormalizer:
    """What a layer keeps: a name or function as it is; a module, which becomes a child.

    A class, a partial of one and a function without arguments are factories: they are called, so that each
    layer has a module of its own. A module that is given made is shared by the layers that it is given to.

    Paper: Table 11 (the names).

    Args:
        who: The layer that complains.
        given: A name, `normalize(keys, dim=-1)`, a module that is called so, or a factory of one.
        causal: Only a name will do.
    """
    if not isinstance(given, str) and _is_factory(given):
        given = _make(who, given)
    check_key_normalization(who, given, running=causal)
    if not isinstance(given, str):
        check_normalizer(who, given)
    return given


def describe_key_normalization(value: KeyNormalization | KeyNormalizer) -> str:
    """The entry of `extra_repr`, led by a comma; empty for a module, which is listed among the children."""
    if isinstance(value, nn.Module):
        return ""
    return (
        f", key_normalization={value!r}"
        if isinstance(value, str)
        else (f", key_normalization={normalization_name(value)}")
    )


def _is_factory(given: Any) -> bool:
    if isinstance(given, functools.partial) and isinstance(given.func, type):
        return True
    if isinstance(given, type):
        return True
    # Called with keys it would fail, called with nothing it would not.
    return callable(given) and not takes(given, None, dim=-1) and takes(given)


def _make(who: str, factory: Any) -> Any:
    try:
        made = factory()
    except TypeError as error:
        raise ArgumentError(
            f"{who}: key_normalization must be made without arguments, got '{first_line(error)}'."
        ) from error
    if not isinstance(made, nn.Module):
        raise ArgumentError(
            f"{who}: key_normalization must make a torch.nn.Module, got a {type(made).__name__}."
        )
    return made
