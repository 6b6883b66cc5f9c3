"""The learning rate at steps computed by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.errors import ArgumentError
from lambdanets.training.optimizer import scheduled_learning_rate


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.1),  # 0.4 * 1 / 4
        (1, 0.2),
        (2, 0.3),
        (3, 0.4),  # the peak ends the warm-up
        (5, 0.2 * (1 + math.sqrt(0.5))),  # a quarter of the cosine
        (7, 0.2),  # its middle
        (11, 0.0),  # its end, one step beyond the last
    ],
)
def test_steps_by_hand(step, expected):
    found = scheduled_learning_rate(step, peak=0.4, warmup_steps=3, total_steps=11)
    assert found == pytest.approx(expected, abs=1e-15)


@given(warmup=st.integers(0, 50), rest=st.integers(1, 200))
def test_it_rises_to_the_peak_and_falls_from_there(warmup, rest):
    rates = [
        scheduled_learning_rate(s, peak=1.0, warmup_steps=warmup, total_steps=warmup + rest)
        for s in range(warmup + rest)
    ]
    assert rates.index(max(rates)) == warmup and max(rates) == 1.0
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert min(rates) > 0


def test_steps_outside_are_refused():
    with pytest.raises(ArgumentError, match="warmup_steps must be at least 0 and below total_steps=5, got 5"):
        scheduled_learning_rate(0, peak=1.0, warmup_steps=5, total_steps=5)
    with pytest.raises(ArgumentError, match="step must lie between 0 and total_steps=5, got 6"):
        scheduled_learning_rate(6, peak=1.0, warmup_steps=0, total_steps=5)
