"""How keys are normalised over the context: by a name, or by a callable of the caller's own.

The contract of a callable: `normalize(keys, dim=-1)` gets keys "b u k m", in float32 at least, with the whole
context along the last axis in row-major order, and gives keys of the same shape. Where elements are hidden,
as under a mask, it is `normalize(keys, dim=-1, mask=mask)` with keys "b u k n m", one copy for each query,
and a boolean mask that broadcasts with them, True where the query sees the element; hidden keys come as
zeros, and what is given for them is not used. Autograd differentiates it, and keeps what that takes.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lambdanets.errors import ArgumentError, ArgumentTypeError, check_choice, first_line
from lambdanets.functional._layout import is_traced
from lambdanets.notation import KeyNormalization

_KEY_NORMALIZATIONS: Final[tuple[KeyNormalization, ...]] = get_args(KeyNormalization)

KeyNormalizer = Callable[..., Any]


def check_key_normalization(who: str, value: object, *, running: bool = False) -> None:
    """Raise unless it is a name, or a callable.

    Args:
        who: The public function or class that complains.
        value: What was given.
        running: Only a name will do, since the sums over the context grow element by element.
    """
    if isinstance(value, str):
        if value not in _KEY_NORMALIZATIONS:  # No further call for what is right: layers come here each time.
            check_choice(who, "key_normalization", value, _KEY_NORMALIZATIONS)
    elif not callable(value):
        raise ArgumentTypeError(
            f"{who}: key_normalization must be a name or a callable, got a {type(value).__name__}."
        )
    elif running:
        raise ArgumentError(
            f"{who}: key_normalization must be one of {', '.join(map(repr, _KEY_NORMALIZATIONS))} for causal "
            f"sums, got {normalization_name(value)}. With a causal mask instead, a callable works."
        )


def check_normalizer(who: str, normalizer: KeyNormalizer) -> None:
    """Raise if a callable's signature says that it does not take keys and `dim`."""
    if not takes(normalizer, None, dim=-1):
        raise ArgumentError(
            f"{who}: key_normalization must take keys and dim=-1, got {normalization_name(normalizer)}."
        )


def takes(function: Callable[..., Any], *arguments: object, **keywords: object) -> bool:
    """Whether a callable takes such arguments, or does not say what it takes, as functions of C do not."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except ValueError:
        return True
    try:
        signature.bind(*arguments, **keywords)
    except TypeError:
        return False
    return True


def normalize_by(
    who: str, normalizer: KeyNormalizer, keys: Float[Tensor, "b u k *context"], **mask: Tensor
) -> Float[Tensor, "b u k *context"]:
    """Call a normalisation of the caller's own; see this file's docstring."""
    if torch.compiler.is_compiling() or is_traced():
        result: Tensor = normalizer(keys, dim=-1, **mask)
        return result.to(keys.dtype)
    if not takes(normalizer, keys, dim=-1, **mask):
        taken = "keys, dim=-1 and mask, where elements are hidden" if mask else "keys and dim=-1"
        raise ArgumentError(
            f"{who}: key_normalization must take {taken}, got {normalization_name(normalizer)}."
        )
    try:
        found = normalizer(keys, dim=-1, **mask)
    except TypeError as error:
        raise ArgumentTypeError(
            f"{who}: key_normalization must take keys {tuple(keys.shape)}, got '{first_line(error)}'."
        ) from error
    shape = getattr(found, "shape", None)
    if not isinstance(found, Tensor) or not found.is_floating_point() or shape != keys.shape:
        came = (
            f"{tuple(found.shape)} of {found.dtype}"
            if isinstance(found, Tensor)
            else f"a {type(found).__name__}"
        )
        raise ArgumentError(
            f"{who}: key_normalization must give floating-point keys {tuple(keys.shape)}, got {came}."
        )
    return found.to(keys.dtype)


def normalization_name(value: object) -> str:
    """A name for people: that of a named one, of a function or of a module's class."""
    return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)
