"""Poisoned memory, and few but repeatable examples of hypothesis."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

import support.strategies  # noqa: F401  registers the profile

settings.load_profile("lambdanets")


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, so that an element nobody wrote cannot look right by accident."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)
