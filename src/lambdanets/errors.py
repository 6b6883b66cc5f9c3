"""Errors a caller can correct: their classes, exit codes and words."""

import difflib
import heapq
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

# Names that are compared with one that is unknown.
_MOST_COMPARED = 1_000

# Letter -> (size, argument it was taken from); "dtype" -> (type, argument it was taken from).
Sizes = dict[str, tuple[Any, str]]


class ArgumentError(ValueError):
    """A value, shape, name or option that does not fit."""

    exit_code: ClassVar[int] = 2


class ArgumentTypeError(TypeError):
    """An argument of the wrong kind."""

    exit_code: ClassVar[int] = 2


class PathError(FileNotFoundError):
    """A path that does not exist or is not what was asked for."""

    exit_code: ClassVar[int] = 2


class DependencyError(ImportError):
    """A library that an extra would install."""

    exit_code: ClassVar[int] = 3


class DataError(ValueError):
    """Data that cannot be read or do not fit the job."""

    exit_code: ClassVar[int] = 4


class CheckpointError(ValueError):
    """A checkpoint that is damaged, missing or of another run."""

    exit_code: ClassVar[int] = 5


class NumericError(ArithmeticError):
    """A loss or gradient that is not finite."""

    exit_code: ClassVar[int] = 6


class StorageError(OSError):
    """A folder that cannot be written, or a disk that is full."""

    exit_code: ClassVar[int] = 7


class StoppedError(Exception):
    """A run that was asked to stop, saved its state and can be started again."""

    exit_code: ClassVar[int] = 75


class LostProcessError(RuntimeError):
    """Another process of the run has ended; its own message says why."""

    exit_code: ClassVar[int] = 1


def check_path(who: str, argument: str, path: object) -> None:
    """Raise where a path is an empty text, which would stand for the working directory."""
    if isinstance(path, str) and not path.strip():
        raise ArgumentError(
            f"{who}: {argument} must be a path, got {path!r}. Is a variable of the shell not set? The working"
            " directory is `.`."
        )


def bind_tensor(
    who: str, argument: str, tensor: "Tensor", letters: str, sizes: Sizes, *, own_type: bool = False
) -> None:
    """Check that a tensor holds floating-point numbers, of the type of those before, and its shape.

    Types may be mixed where a convolution takes them mixed: under autocast.

    Args:
        who: The public function or class that complains.
        argument: The argument's name.
        tensor: What came.
        letters: Such as `"b h k *size"`; a starred name takes all the axes that are left.
        sizes: Letter -> (size, argument it was taken from); filled by this call, with the type too.
        own_type: It may be of another floating-point type than the tensors before.
    """
    bind_type(who, argument, tensor, sizes, own_type=own_type)
    bind_shape(who, argument, tensor, letters, sizes)


def bind_type(who: str, argument: str, tensor: "Tensor", sizes: Sizes, *, own_type: bool = False) -> None:
    """The part of `bind_tensor` that looks at the type."""
    dtype: Any = getattr(tensor, "dtype", None)
    if not getattr(dtype, "is_floating_point", False) or dtype.itemsize < 2:
        raise ArgumentTypeError(
            f"{who}: {argument} must be a tensor of float16, bfloat16, float32 or float64, "
            f"got {_kind_of(tensor)}."
        )
    wanted, first = sizes.setdefault("dtype", (dtype, argument))
    if dtype != wanted and not own_type and not may_be_mixed(tensor, wanted):
        hint = "" if 8 in (dtype.itemsize, wanted.itemsize) else ", or use torch.autocast"
        raise ArgumentTypeError(
            f"{who}: {argument} must be {wanted} as {first}, got {dtype}. Convert one of them{hint}."
        )


def check_mask(who: str, mask: "Tensor") -> None:
    """Raise unless a mask is a tensor of bools."""
    from torch import bool as boolean  # this module is imported without torch

    if getattr(mask, "dtype", None) != boolean:
        raise ArgumentTypeError(
            f"{who}: mask must be boolean, True where a query sees an element, got {_kind_of(mask)}."
        )


def _kind_of(value: object) -> str:
    """The type of a tensor's numbers, or the class of what is no tensor."""
    dtype = getattr(value, "dtype", None)
    return str(dtype) if hasattr(dtype, "is_floating_point") else f"a {type(value).__name__}"


def bind_shape(who: str, argument: str, tensor: "Tensor", letters: str, sizes: Sizes) -> None:
    """The part of `bind_tensor` that looks at the shape."""
    names = letters.split()
    shape: tuple[Any, ...] = tuple(tensor.shape)
    if shape and not isinstance(shape[0], int) and hasattr(shape[0], "dtype"):
        shape = plain_sizes(shape)
    found: list[Any] = list(shape)
    if names[-1].startswith("*"):
        found[len(names) - 1 :] = [shape[len(names) - 1 :]]
    if len(shape) < len(names) or len(found) != len(names):
        raise ArgumentError(_shape_message(who, argument, names, shape, sizes))
    for name, size in zip(names, found, strict=True):
        if name not in sizes:
            sizes[name] = (size, argument)
        elif sizes[name][0] != size:
            raise ArgumentError(_shape_message(who, argument, names, shape, sizes))


def plain_sizes(shape: Iterable[Any]) -> tuple[int, ...]:
    """Numbers instead of the tensors by which torch.jit.trace records sizes.

    What looks at them is no part of the program, so there is nothing to warn of.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(int(size) for size in shape)


def _shape_message(who: str, argument: str, names: list[str], shape: tuple[int, ...], sizes: Sizes) -> str:
    sources: dict[str, list[str]] = {}
    for name in names:
        if name in sizes and sizes[name][1] != argument:
            size, source = sizes[name]
            sources.setdefault(source, []).append(f"{name}={size}")
    known = ", ".join(f"{', '.join(bound)} taken from {source}" for source, bound in sources.items())
    needed = f"({', '.join(names)})" + (f" with {known}" if known else "")
    return f"{who}: {argument} must have shape {needed}, got {shape}."


def may_be_mixed(tensor: "Tensor", dtype: Any) -> bool:
    """Whether a convolution takes the tensor with weights of the type: under autocast, and no float64."""
    from torch import amp, float64, is_autocast_enabled

    if float64 in (tensor.dtype, dtype):
        return False
    device = tensor.device.type
    return amp.is_autocast_available(device) and is_autocast_enabled(device)


def check_choice(who: str, argument: str, value: str, choices: Iterable[str]) -> None:
    """Raise when `value` is not one of `choices`, naming the nearest."""
    known = list(choices)
    if value not in known:
        listed = ", ".join(repr(choice) for choice in known)
        raise ArgumentError(
            f"{who}: {argument} must be one of {listed}, got {value!r}.{did_you_mean(value, known)}"
        )


def require(config: object, argument: str, fulfilled: bool, requirement: str) -> None:
    """Raise unless a setting fulfils what it must."""
    if not fulfilled:
        value = getattr(config, argument)
        raise ArgumentError(f"{type(config).__name__}: {argument} must {requirement}, got {value}.")


def check_positive(who: str, most: int = 2**31 - 1, **arguments: int) -> None:
    """Raise unless every argument is a whole number from 1 to `most`; a traced size is one too."""
    for argument, value in arguments.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ArgumentTypeError(f"{who}: {argument} must be int, got {value!r}.")
        if value < 1:
            raise ArgumentError(f"{who}: {argument} must be at least 1, got {value}.")
        if value > most:
            raise ArgumentError(f"{who}: {argument} must be at most {most:,}, got {value:,}.")


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known names, led by a blank; empty when none is near."""
    names = list(known)
    if len(names) > _MOST_COMPARED:
        # Each comparison takes some 100 microseconds: of a hundred thousand classes, those that begin alike.
        alike = {name: len(commonprefix([value, name])) for name in names}  # noqa: RUF071 - letters are meant
        names = heapq.nlargest(_MOST_COMPARED, alike, key=alike.__getitem__)
    closest = difflib.get_close_matches(value, names, n=3)
    return f" Closest: {', '.join(closest)}." if closest else ""


def first_line(error: Exception) -> str:
    """What an error says first, or its kind where it says nothing."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def complaint(who: str) -> Iterator[None]:
    """Begin the messages of our own errors with the public function or class that complains."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "exit_code"):
            error.args = (f"{who}: {error}",)
        raise
