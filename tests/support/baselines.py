"""Models of timm, for tests that can do without."""

import pytest
from torch import nn

from lambdanets.errors import DependencyError
from lambdanets.integrations.timm import create_baseline


def baseline_or_skip(name: str, **options: int) -> nn.Module:
    """The model; where timm or its torchvision cannot be imported, the test is skipped and says so."""
    try:
        return create_baseline(name, **options)
    except (DependencyError, RuntimeError) as error:
        pytest.skip(str(error))
