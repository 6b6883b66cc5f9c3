"""Public names of a package, listed once and imported when they are first used."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module


def resolve_lazily(package: str) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Make a package's `__all__`, `__getattr__` and `__dir__` (PEP 562) from its imports for type checkers.

    Importing the package then costs nothing, and every public name stands once: in the block
    `if TYPE_CHECKING:` of its `__init__.py`, imported as itself from the module that defines it.

    Args:
        package: The package's `__name__`.
    """
    names = _typed_imports(package)

    def __getattr__(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = names[name]
        is_submodule = module == package
        value = import_module(f"{package}.{name}") if is_submodule else getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return sorted(names), __getattr__, __dir__


def _typed_imports(package: str) -> dict[str, str]:
    """Name -> module of the imports in the block `if TYPE_CHECKING:` of a package."""
    spec = sys.modules[package].__spec__
    assert spec is not None
    source = spec.loader.get_source(package)  # type: ignore[union-attr]
    blocks = [
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    imports = [node for block in blocks for node in block if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
