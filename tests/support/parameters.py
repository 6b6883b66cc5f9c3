"""What the same test runs over: precisions, normalisations, places in the memory."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from lambdanets.functional import content
from lambdanets.functional.position import IMPLEMENTATIONS
from lambdanets.notation import KeyNormalization

LOW_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = {"float64": torch.float64, **LOW_PRECISIONS}

# Implementations of `position_output` and `content_summary` that torch runs. Kernels, which an interpreter
# runs slowly, have tests of their own.
POSITION_FORMS = tuple(one for one in IMPLEMENTATIONS if one.name != "triton")
CONTENT_FORMS = tuple(one for one in content.IMPLEMENTATIONS if one.name != "triton")

each_normalization = pytest.mark.parametrize("key_normalization", get_args(KeyNormalization))
each_precision = pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)
each_low_precision = pytest.mark.parametrize("dtype", LOW_PRECISIONS.values(), ids=LOW_PRECISIONS)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.movedim(2, -1).contiguous().movedim(-1, 2)


def _every_other(tensor: Tensor) -> Tensor:
    return torch.stack([tensor, torch.full_like(tensor, torch.nan)], dim=-1)[..., 0]


def _batch_inside(tensor: Tensor) -> Tensor:
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


# The same numbers in other places of the memory.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": _channels_last,
    "every_other": _every_other,
    "batch_inside": _batch_inside,
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
