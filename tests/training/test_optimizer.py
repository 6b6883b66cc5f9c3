"""SGD against its equations, and its state by parameter names."""

import pytest
import torch
from torch import nn

from lambdanets.errors import CheckpointError
from lambdanets.training.optimizer import (
    gradient_norm,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_learning_rate,
)
from lambdanets.training.settings import OptimConfig
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
