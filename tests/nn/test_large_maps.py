"""A lambda layer on a map of 64×64: nothing that it makes has an element for each pair of positions."""

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from lambdanets import LambdaLayer2d

SIDE = 64
PAIRS_BYTES = 4 * SIDE**4


def largest_bytes(call: Callable[[], object]) -> int:
    """Bytes of the largest piece of memory that a call takes, inside of operators too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = profiled.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.mark.parametrize("scope", [None, 23])
def test_nothing_has_an_element_for_each_pair_of_positions(scope: int | None) -> None:
    """An output and all gradients of two images."""
    layer = LambdaLayer2d(8, query_depth=2, num_heads=2, scope_size=scope, feature_size=SIDE)
    images = torch.randn(2, 8, SIDE, SIDE, requires_grad=True)
    assert 0 < largest_bytes(lambda: layer(images).sum().backward()) < PAIRS_BYTES / 16
    assert layer.position.table.grad.any()


def test_the_form_by_all_pairs_would_be_noticed() -> None:
    queries, keys = torch.randn(2, SIDE**2, 1)
    assert largest_bytes(lambda: queries @ keys.T) >= PAIRS_BYTES
