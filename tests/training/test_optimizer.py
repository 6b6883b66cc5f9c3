"""Optimisers against their equations, the learning rate at steps computed by hand, the EMA in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lambdanets.errors import ArgumentError, CheckpointError
from lambdanets.training.config import OptimConfig
from lambdanets.training.distributed import ALONE
from lambdanets.training.optimizer import (
    ExponentialMovingAverage,
    derived_ema_decay,
    ema_half_life,
    gradient_norm,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    scheduled_learning_rate,
    set_learning_rate,
)
from lambdanets.training.state import init_train_state
from support.training import tiny_config, tiny_model, tiny_state


def test_three_steps_of_nesterov_by_its_equations():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    plain = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    config = OptimConfig(learning_rate=0.3, momentum=0.8, weight_decay=0.1)
    groups = [{"params": [weight], "weight_decay": 0.1}, {"params": [plain], "weight_decay": 0.0}]
    optimizer = make_optimizer(config, groups)
    expected = {"weight": ([1.0, -2.0], [0.0, 0.0], 0.1), "plain": ([0.5], [0.0], 0.0)}
    for step in range(3):
        lr = 0.3 / (step + 1)
        set_learning_rate(optimizer, lr)
        optimizer.zero_grad()
        ((weight**2).sum() + (plain**2).sum()).backward()
        optimizer.step()
        for values, velocities, decay in expected.values():
            for i, value in enumerate(values):
                gradient = 2 * value + decay * value
                velocities[i] = 0.8 * velocities[i] + gradient
                values[i] = value - lr * (gradient + 0.8 * velocities[i])
    assert weight.tolist() == pytest.approx(expected["weight"][0], abs=1e-14)
    assert plain.tolist() == pytest.approx(expected["plain"][0], abs=1e-14)


def test_the_norm_is_over_all_gradients_and_shows_a_bad_one():
    model = nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[2.0, 3.0]]), torch.tensor([6.0])
    assert gradient_norm(model).item() == pytest.approx(7.0)
    model.bias.grad = torch.tensor([float("inf")])
    assert not torch.isfinite(gradient_norm(model))


def test_state_returns_under_the_names_of_the_parameters():
    config = tiny_config()
    state, other = tiny_state(config), tiny_state(config)
    state.model(torch.randn(4, 1, 6, 6)).sum().backward()
    assert optimizer_state(state.optimizer, state.model) == {}
    state.optimizer.step()
    tensors = optimizer_state(state.optimizer, state.model)
    assert "momentum_buffer/0.weight" in tensors
    assert len(tensors) == len(list(state.model.parameters()))
    load_optimizer_state(other.optimizer, other.model, tensors)
    again = optimizer_state(other.optimizer, other.model)
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


def test_state_of_another_model_is_refused():
    state = tiny_state(tiny_config(), tiny_model())
    with pytest.raises(
        CheckpointError, match=r"state must belong to parameters of the model, got 'momentum_buffer/9"
    ):
        load_optimizer_state(state.optimizer, state.model, {"momentum_buffer/9.weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"momentum_buffer/0.bias must have shape \(6,\), got \(2,\)"):
        load_optimizer_state(state.optimizer, state.model, {"momentum_buffer/0.bias": torch.ones(2)})


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
def test_ema_in_closed_form_with_warm_up(decay):
    model = Counted()
    ema = ExponentialMovingAverage(model, decay)
    values = [3.0, -1.0, 2.5, 7.0, 0.25] * 8
    for value in values:
        model.set(value)
        ema.update(model)
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(len(values))]
    expected = 0.0
    for t, value in enumerate(values):
        kept = 1.0
        for later in decays[t + 1 :]:
            kept *= later
        expected += (1 - decays[t]) * kept * value
    assert ema.module.weight.item() == pytest.approx(expected, abs=1e-12)
    assert ema.module.mean.item() == pytest.approx(-expected, abs=1e-12)
    assert ema.module.count.item() == len(values) == ema.num_updates


def test_the_ema_is_a_model_of_its_own_in_evaluation_mode():
    model = Counted()
    ema = ExponentialMovingAverage(model, 0.9)
    model.set(1.0)
    assert ema.module.weight.item() == 0.0
    assert not ema.module.training
    assert not ema.module.weight.requires_grad
    assert ema.module.alias is ema.module.weight


def test_half_life():
    assert ema_half_life(0.5) == pytest.approx(1.0)
    assert ema_half_life(0.0) == 0.0


def test_a_decay_of_one_is_refused():
    with pytest.raises(ArgumentError, match=r"decay must be at least 0 and below 1, got 1\.0"):
        ExponentialMovingAverage(Counted(), 1.0)


@pytest.mark.parametrize(
    ("steps", "decay"),
    [(0, 0.0), (1, 0.0), (20, 0.0), (40, 0.5), (500, 0.96), (200_000, 0.9999), (10**7, 0.9999)],
)
def test_the_derived_decay_is_a_mean_over_the_last_twentieth_of_a_run(steps, decay):
    assert derived_ema_decay(steps) == pytest.approx(decay, abs=1e-12)


def test_a_config_without_a_decay_takes_the_derived_one():
    state = init_train_state(
        torch.nn.Linear(2, 2),
        replace(tiny_config(), ema_decay=None),
        ALONE,
        lambda model: [{"params": list(model.parameters()), "weight_decay": 0.0}],
        num_steps=80,
    )
    assert state.ema.decay == 0.75
    assert tiny_state(tiny_config(ema_decay=0.9)).ema.decay == 0.9
