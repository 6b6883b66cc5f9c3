"""Public names that are imported when they are first used."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def resolve_lazily(
    package: str, names: Mapping[str, str], submodules: tuple[str, ...] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make a package's `__getattr__` and `__dir__` (PEP 562), so that importing it costs nothing.

    Args:
        package: The package's `__name__`.
        names: Public name -> module that defines it.
        submodules: Sub-packages reachable as attributes.
    """

    def __getattr__(name: str) -> object:
        if name in names:
            value = getattr(import_module(names[name]), name)
        elif name in submodules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names, *submodules})

    return __getattr__, __dir__
