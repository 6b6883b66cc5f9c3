"""Paths among the arguments: one that is empty is refused, where it would stand for the working directory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from lambdanets.errors import check_path


class _EmptyPathError(Exception):
    """A path that is an empty text; no ValueError, for tyro would try another type."""


@contextmanager
def reading_paths(argv: Sequence[str], command: str) -> Iterator[None]:
    """Let tyro refuse empty paths.

    Args:
        argv: The arguments that it parses.
        command: Name of the command.

    Raises:
        ArgumentError: One is empty.
    """
    registry = ConstructorRegistry()
    registry.primitive_rule(_path_rule)
    with registry:
        try:
            yield
        except _EmptyPathError as error:
            (text,) = error.args
            check_path(command, _argument_of(text, argv), text)


def _argument_of(text: str, argv: Sequence[str]) -> str:
    """The option whose value a text is, or the place of an argument."""
    for number, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if word == text:
            before = argv[number - 1] if number else ""
            return before if before.startswith("--") else f"argument {number + 1}"
        if option.startswith("--") and equals and value == text:
            return option
    return "a path"


def _path_rule(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if kind.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=_read,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _read(texts: list[str]) -> Path:
    if not texts[0].strip():
        raise _EmptyPathError(texts[0])
    return Path(texts[0])
