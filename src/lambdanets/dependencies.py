"""What the package requires, and the command that installs what is missing."""

import importlib.metadata
import re
from typing import Final

from lambdanets.errors import DependencyError

# The extras that add a feature.
_EXTRAS: Final = ("train", "detect", "huggingface", "tensorboard", "export")

# Modules whose library has another name.
_LIBRARIES: Final = {"PIL": "pillow", "sklearn": "scikit-learn", "faster_coco_eval": "faster-coco-eval"}


def requirements() -> dict[str, tuple[str, str]]:
    """Read what the package requires: library -> (oldest version, extra that brings it; "" for none)."""
    found: dict[str, tuple[str, str]] = {}
    try:
        lines = importlib.metadata.requires("lambdanets") or []
    except importlib.metadata.PackageNotFoundError:
        # A copy of the source that was never installed.
        return found
    for extra in ("", *_EXTRAS):
        for line in lines:
            condition = f"; extra == ['\"]{extra}['\"]" if extra else ""
            if match := re.fullmatch(rf"([\w.-]+)>=([\d.]+){condition}", line):
                found.setdefault(match[1], (match[2], extra))
    return found


def missing_library(who: str, module: str, got: object = "none") -> DependencyError:
    """Make the error for a library that cannot be imported.

    Args:
        who: The public function, class or command that needs it.
        module: The module or its library.
        got: What came instead, such as the message of the import.
    """
    library = _library(module)
    return DependencyError(f"{who}: {library} must be installed, got {got}. {install_command(library)}.")


def install_command(library: str) -> str:
    """Make the command that installs a library with all that is missing of its extra.

    The package is on no index: the names of what it needs work for a clone and for an installed wheel alike.
    """
    library = _library(library)
    known = requirements()
    extra = known[library][1] if library in known else None
    others = [
        name
        for name, (_, own) in known.items()
        if own == extra and name != library and not _is_installed(name)
    ]
    return " ".join(["pip install", library, *others])


def _library(module: str) -> str:
    name = module.partition(".")[0]
    return _LIBRARIES.get(name, name)


def _is_installed(library: str) -> bool:
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
