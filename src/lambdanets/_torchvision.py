"""Torchvision, also where its binary is of another build than torch."""

import importlib

import torch

# The operators live as long as this object.
_declared: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, also where its binary is of another build than torch.

    PyPI's binary needs CUDA's libraries and does not load beside torch for a CPU. torchvision's Python code
    then fails because two operators are missing of which it wants to say what shape they return. Transforms
    and timm's models use neither, so they are declared here; to call one is an error, as it is without its
    binary.

    Raises:
        ImportError: There is no torchvision.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _declared:
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
