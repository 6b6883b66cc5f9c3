"""The moving average in closed form."""

import pytest
import torch
from torch import nn

from lambdanets.errors import ArgumentError
from lambdanets.training.optimizer import ExponentialMovingAverage


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.alias = self.weight
        self.register_buffer("mean", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def set(self, value):
        with torch.no_grad():
            self.weight.fill_(value)
            self.mean.fill_(-value)
            self.count += 1


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.95])
def test_closed_form_with_warm_up(decay):
    model = Counted()
    average = ExponentialMovingAverage(model, decay)
    values = [3.0, -1.0, 2.5, 7.0, 0.25] * 8
    for value in values:
        model.set(value)
        average.update(model)
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(len(values))]
    expected = 0.0
    for t, value in enumerate(values):
        kept = 1.0
        for later in decays[t + 1 :]:
            kept *= later
        expected += (1 - decays[t]) * kept * value
    assert average.module.weight.item() == pytest.approx(expected, abs=1e-12)
    assert average.module.mean.item() == pytest.approx(-expected, abs=1e-12)
    assert average.module.count.item() == len(values) == average.num_updates


def test_the_average_is_its_own_model_in_evaluation_mode():
    model = Counted()
    average = ExponentialMovingAverage(model, 0.9)
    model.set(1.0)
    assert average.module.weight.item() == 0.0
    assert not average.module.training
    assert not average.module.weight.requires_grad
    assert average.module.alias is average.module.weight


def test_half_life():
    assert ExponentialMovingAverage(Counted(), 0.5).half_life_steps() == pytest.approx(1.0)
    assert ExponentialMovingAverage(Counted(), 0.0).half_life_steps() == 0.0


def test_a_decay_of_one_is_refused():
    with pytest.raises(ArgumentError, match=r"decay must be at least 0 and below 1, got 1\.0"):
        ExponentialMovingAverage(Counted(), 1.0)
