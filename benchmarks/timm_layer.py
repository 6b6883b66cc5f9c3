"""timm's lambda layer from its own file, without the rest of timm."""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

from torch import nn


@functools.cache
def timm_layer() -> Callable[..., nn.Module]:
    """timm's class, unchanged.

    `import timm` imports torchvision, and fails where that does not fit torch. The layer's file needs torch
    and three small files of timm that need torch alone. So its two parent packages stand there empty, with
    their real folders to search, while it is imported; a parent that is there already is left as it is.
    """
    parents = [name for name in ("timm", "timm.layers") if name not in sys.modules]
    modules = {name: _empty_package(name) for name in parents}
    sys.modules.update(modules)
    try:
        return importlib.import_module("timm.layers.lambda_layer").LambdaLayer
    finally:
        for name in modules:
            del sys.modules[name]


def _empty_package(name: str) -> ModuleType:
    found = importlib.util.find_spec(name.partition(".")[0])
    if found is None or found.submodule_search_locations is None:
        raise ImportError("timm_layer: timm must be installed. pip install timm")
    below = name.split(".")[1:]
    spec = ModuleSpec(name, loader=None, is_package=True)
    spec.submodule_search_locations = [
        "/".join([folder, *below]) for folder in found.submodule_search_locations
    ]
    return importlib.util.module_from_spec(spec)
