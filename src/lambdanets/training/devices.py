"""What a job of one process computes on."""

import torch

from lambdanets.errors import DependencyError


def chosen_device(who: str, name: str) -> torch.device:
    """The device of a name: cpu, cuda, or auto: cuda where there is one.

    Args:
        who: The job that complains.
        name: What was asked for.

    Raises:
        DependencyError: There is no GPU for cuda.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DependencyError(
            f"{who}: device cuda needs a GPU that torch can use, got none. Use --device cpu."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
