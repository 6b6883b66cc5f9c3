"""Frozen stages through training, and the learning rate of each layer by numbers computed by hand."""

import copy

import pytest
import torch
from torch import nn

from lambdanets.errors import ArgumentError
from lambdanets.models import create_model, parameter_groups
from lambdanets.training.config import OptimConfig
from lambdanets.training.optimizer import make_optimizer, set_learning_rate

NAMES = ("lambda_resnet_small", "lambda_mobilenet_small")


def train_steps(model: nn.Module, steps: int = 3) -> None:
    """A few steps of SGD on random images, in training mode."""
    groups = parameter_groups(model, 1e-2)
    optimizer = make_optimizer(OptimConfig(learning_rate=0.1), groups)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        model(torch.rand(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_frozen_stages_keep_every_bit_and_the_others_move(name: str) -> None:
    model = create_model(name, num_classes=3)
    model.freeze(["c3", "stem"])
    assert model.frozen == ("stem", "c3")
    before = copy.deepcopy(model.state_dict())
    train_steps(model)
    for key, tensor in model.state_dict().items():
        still = key.startswith(("stem.", "c3."))
        # Statistics and counters of norms too.
        assert torch.equal(tensor, before[key]) is still, key


def test_a_frozen_stage_stays_in_evaluation_mode() -> None:
    model = create_model("lambda_resnet_small", dropout=0.5, stochastic_depth=0.5)
    model.freeze(["c2"])
    assert not any(part.training for part in model.c2.modules()) and model.c3.training
    model.eval()
    assert not model.c3.training
    model.train()
    assert model.training and model.dropout.training and not model.c2.training
    assert copy.deepcopy(model).train().c2.training is False
    model.freeze([])
    assert model.c2.training and all(one.requires_grad for one in model.parameters())


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("lambda_resnet_small", "'stem', 'c2', 'c3', 'c4', 'c5'"),
        ("lambda_mobilenet_small", "'stem', 'c1', 'c2', 'c3', 'c4', 'c5', 'head'"),
    ],
)
def test_a_stage_that_is_not_there_is_refused(name: str, known: str) -> None:
    message = rf"freeze: stage must be one of {known}, got 'c6'\."
    with pytest.raises(ArgumentError, match=message):
        create_model(name).freeze(["c6"])


def test_frozen_parameters_are_in_no_group() -> None:
    model = create_model("lambda_resnet_small")
    model.freeze(["stem", "c2", "c3", "c4", "c5"])
    groups = parameter_groups(model, 1e-2, layer_decay=0.5)
    names = {id(one): name for name, one in model.named_parameters()}
    trained = [names[id(one)] for group in groups for one in group["params"]]
    assert sorted(trained) == ["classifier.bias", "classifier.weight"]
    train_steps(model, 1)


def test_layers_are_the_blocks_from_the_stem_on() -> None:
    assert list(create_model("lambda_resnet_small").layers()) == [
        "stem",
        "c2.0",
        "c3.0",
        "c4.0",
        "c4.1",
        "c5.0",
    ]
    layers = list(create_model("lambda_mobilenet_small").layers())
    assert layers[:4] == ["stem", "c1.0", "c2.0", "c3.0"] and layers[-2:] == ["c5.2", "head"]


def rate_of(model: nn.Module, optimizer: torch.optim.Optimizer, name: str) -> float:
    (rate,) = (
        group["lr"]
        for group in optimizer.param_groups
        if any(one is model.get_parameter(name) for one in group["params"])
    )
    return float(rate)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb", "rmsprop"])
def test_rates_by_hand_at_every_step_of_a_schedule(optimizer: str) -> None:
    # Six layers before the classifier: stem, c2.0, c3.0, c4.0, c4.1, c5.0.
    model = create_model("lambda_resnet_small", num_classes=3)
    made = make_optimizer(
        OptimConfig(name=optimizer, learning_rate=0.8), parameter_groups(model, 1e-2, layer_decay=0.5)
    )
    for rate in (0.8, 0.4):
        set_learning_rate(made, rate)
        assert rate_of(model, made, "stem.0.weight") == pytest.approx(rate / 64)
        assert rate_of(model, made, "c2.0.norm_reduce.bias") == pytest.approx(rate / 32)
        assert rate_of(model, made, "c4.0.expand.weight") == pytest.approx(rate / 8)
        assert rate_of(model, made, "c4.1.mixer.position.table") == pytest.approx(rate / 4)
        assert rate_of(model, made, "c5.0.reduce.weight") == pytest.approx(rate / 2)
        assert rate_of(model, made, "classifier.bias") == rate


def test_an_update_of_sgd_is_scaled() -> None:
    model = create_model("lambda_resnet_small", num_classes=3)
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(
        OptimConfig(learning_rate=0.5, momentum=1e-9), parameter_groups(model, 0.0, layer_decay=0.25)
    )
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, factor in {
        "classifier.weight": 1,
        "c5.0.reduce.weight": 1 / 4,
        "stem.0.weight": 1 / 4096,
    }.items():
        moved = before[name] - model.get_parameter(name).detach()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5 * factor), rtol=1e-6, atol=1e-7)


def test_groups_with_a_decay_partition_the_parameters_too() -> None:
    model = create_model("lambda_resnet_small", layers="LLLL", share_position="stage")
    groups = parameter_groups(model, 1e-2, layer_decay=0.75)
    parameters = [id(one) for group in groups for one in group["params"]]
    assert sorted(parameters) == sorted(map(id, model.parameters()))
    scales = [group["lr_scale"] for group in groups]
    assert scales == sorted(scales) and scales[-1] == 1.0
    plain = parameter_groups(model, 1e-2)
    for number, one in enumerate(plain):
        scaled = [
            id(p) for group in groups if group["weight_decay"] == one["weight_decay"] for p in group["params"]
        ]
        assert sorted(scaled) == sorted(map(id, one["params"])), number


def test_without_a_decay_the_groups_are_the_two_of_before() -> None:
    model = create_model("lambda_resnet_small")
    groups = parameter_groups(model, 1e-2, layer_decay=1.0)
    assert [group.keys() for group in groups] == [{"params", "weight_decay"}] * 2


def test_a_network_without_known_layers_has_no_decay() -> None:
    message = (
        r"parameter_groups: layer_decay must be 1 for a network without known layers, got 0\.5 for"
        r" Sequential\. Networks of create_model have them\."
    )
    with pytest.raises(ArgumentError, match=message):
        parameter_groups(nn.Sequential(nn.Linear(2, 2)), 0.0, layer_decay=0.5)


def test_what_is_built_on_a_network_has_the_full_rate() -> None:
    backbone = create_model("lambda_resnet_small")
    backbone.classifier = nn.Identity()
    detector = nn.ModuleDict({"backbone": backbone, "box": nn.Linear(4, 2)})
    groups = parameter_groups(detector, 0.0, layer_decay=0.5)
    made = make_optimizer(OptimConfig(learning_rate=1.0), groups)
    assert rate_of(detector, made, "box.weight") == 1.0
    assert rate_of(detector, made, "backbone.c5.0.reduce.weight") == 0.5
