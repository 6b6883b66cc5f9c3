"""Imports that wait: of public names until they are used, of operators until torch is there."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def resolve_lazily(package: str) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Make a package's `__all__`, `__getattr__` and `__dir__` (PEP 562) from its imports for type checkers.

    Importing the package then costs nothing, and every public name stands once: in the block
    `if TYPE_CHECKING:` of its `__init__.py`, imported as itself from the module that defines it. The call
    stands in the block `else:`.

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
        # What was imported on the way is nothing to complete.
        return sorted({name for name in vars(sys.modules[package]) if name.startswith("__")} | {*names})

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


def import_with(trigger: str, *modules: str) -> None:
    """Import modules now if another one is there, or as soon as it has been imported.

    A program saved by `torch.export` needs our operators registered with torch, whichever is imported first;
    and importing this package alone must not import torch.

    Args:
        trigger: The module that is waited for.
        modules: What is imported after it; left out where something that it needs is missing.
    """
    waiting = _Waiting(trigger, modules)
    if trigger in sys.modules:
        waiting.import_all()
    else:
        sys.meta_path.insert(0, waiting)


class _Waiting:
    """A finder that finds nothing, but puts itself around the loader of one module, once."""

    def __init__(self, trigger: str, modules: tuple[str, ...]) -> None:
        self.trigger, self.modules = trigger, modules
        self.loader: Any = None

    def find_spec(self, name: str, *_: object) -> Any:
        if name != self.trigger:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def create_module(self, spec: Any) -> Any:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.import_all()

    def import_all(self) -> None:
        try:
            for name in self.modules:
                import_module(name)
        except ImportError:
            pass
