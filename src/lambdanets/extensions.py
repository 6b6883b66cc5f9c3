"""Recipes and data sets of one's own: modules that `--import` names, and what they register."""

import importlib
import importlib.machinery
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lambdanets.errors import ArgumentError, did_you_mean

_OPTION: Final = "--import"

# The modules and files that `--import` has named, as they can be named again from anywhere.
_imported: list[str] = []
# What is being imported now; a module may import others that register something.
_importing: list[str] = []
# (kind, name) -> where it was registered.
_registered: dict[tuple[str, str], str] = {}


def take_imports(argv: Iterable[str]) -> list[str]:
    """Import what `--import MODULE` names, anywhere among arguments; return the other arguments.

    Raises:
        ArgumentError: There is no such module or file, or it ends with an error.
    """
    others: list[str] = []
    words = iter(argv)
    for word in words:
        option, equals, value = word.partition("=")
        if option != _OPTION:
            others.append(word)
            continue
        named = value if equals else next(words, "")
        if not named or named.startswith("-"):
            raise ArgumentError(f"{_OPTION}: a module or a .py file must follow, got {named or 'none'}.")
        _import_extension(named)
    return others


def with_imports(argv: Sequence[str]) -> tuple[str, ...]:
    """Add the imports of this command to arguments, for a command that is written down or started."""
    return (*argv, *(word for named in _imported for word in (_OPTION, named)))


def _import_extension(named: str) -> None:
    """Import a module, or a file, that registers recipes or data sets.

    Its folder is added to the end of the path of imports, so that processes that are started find it too.

    Args:
        named: `my_module`, `my_package.data` or `folder/my_module.py`.

    Raises:
        ArgumentError: There is no such module or file, or it ends with an error.
    """
    if named.endswith(".py") or os.sep in named:
        module, folder = _module_of_file(Path(named))
        named = str(folder / f"{module}.py")
    else:
        module, folder = named, Path.cwd()
        if not _is_found(module, folder):
            near = did_you_mean(module, (path.stem for path in folder.glob("*.py")))
            raise ArgumentError(
                f"{_OPTION}: {module} must be a module in {folder} or an installed one, got none.{near}"
            )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    _importing.append(named)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise ArgumentError(
            f"{_OPTION}: {named} must be imported without an error, got\n{_own_traceback(error)}"
        ) from error
    finally:
        _importing.pop()
    if named not in _imported:
        _imported.append(named)


def claim(who: str, kind: str, name: str, thing: Any, known: Mapping[str, Any]) -> None:
    """Check that a name is free, or of an earlier version of the same thing, and note where it comes from.

    A cell of a notebook that is run again defines the same thing again.

    Args:
        who: The public function that registers.
        kind: Such as `data set`.
        name: The name.
        thing: The function or class.
        known: The things of that kind by name.

    Raises:
        ArgumentError: The name is taken.
    """
    taken = known.get(name)
    if taken is not None and _place(taken) != _place(thing):
        raise ArgumentError(
            f"{who}: name must be free, got {name!r}, which {'.'.join(_place(taken))} has. Take another one."
        )
    _registered[kind, name] = _importing[0] if _importing else _program_of(thing.__module__)


def origin_of(kind: str, name: str) -> str | None:
    """Return the module or file that registered a recipe or a data set; None for one of this library."""
    return _registered.get((kind, name))


def import_hint(kind: str, origins: Iterable[str] = ()) -> str:
    """Say how a recipe or data set of one's own becomes known, in a sentence that a blank leads.

    Args:
        kind: Such as `data set`.
        origins: The modules or files that registered it, where that is written down.
    """
    options = " ".join(f"{_OPTION} {origin}" for origin in origins)
    if not options:
        return f" A {kind} of your own is known after {_OPTION} MODULE, in Python after its import."
    return f" It comes from a module of your own: add {options}, or import that module first in Python."


def _is_found(module: str, folder: Path) -> bool:
    """Whether there is such a module; an error within a package above it is the import's to show."""
    if module in sys.modules:
        return True
    top = module.partition(".")[0]
    path = [*sys.path, str(folder)]
    spec = importlib.machinery.PathFinder.find_spec(top, path)
    if spec is None or "." not in module:
        return spec is not None
    parts = module.split(".")[1:]
    places = spec.submodule_search_locations or ()
    return any(
        Path(place, *parts).is_dir() or Path(place, *parts).with_suffix(".py").is_file() for place in places
    )


def _module_of_file(path: Path) -> tuple[str, Path]:
    """The name of the module in a file, and its folder."""
    file = Path(os.path.expanduser(path)).resolve()  # noqa: PTH111
    if not file.is_file():
        raise ArgumentError(f"{_OPTION}: {path} must be a file or the name of a module, got none.")
    module = file.stem
    if not module.isidentifier():
        raise ArgumentError(
            f"{_OPTION}: the name of the file must be a word of letters, digits and underscores, got"
            f" {file.name}."
        )
    loaded = sys.modules.get(module)
    spec = importlib.machinery.PathFinder.find_spec(module)
    other = getattr(loaded, "__file__", None) or getattr(spec, "origin", None) or "a module of Python"
    is_taken = loaded is not None or spec is not None or module in sys.builtin_module_names
    if is_taken and Path(other).resolve() != file:
        raise ArgumentError(
            f"{_OPTION}: the name of the file must not be that of another module, got {file.name} beside"
            f" {other}. Rename it."
        )
    return module, file.parent


def _own_traceback(error: BaseException) -> str:
    """The traceback of an error without the machinery that imports."""
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(
        [frame for frame in shown.stack if frame.filename != __file__ and "importlib" not in frame.filename]
    )
    return "".join(shown.format()).rstrip()


def _place(thing: Any) -> tuple[str, str]:
    """The module and the name of a definition, which stay when it is defined anew."""
    return thing.__module__, thing.__qualname__


def _program_of(module: str) -> str:
    """A module by its name, the program that runs by its file; a notebook has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return module if module != "__main__" or file is None else str(Path(file).resolve())
