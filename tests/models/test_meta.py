"""Networks that are only counted: the same shapes, no memory, and nothing drawn for them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lambdanets.models import create_model, on_meta


class Called(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["lambda_resnet_digits", "lambda_mobilenet_small"])
def test_shapes_are_those_of_the_network_and_nothing_is_drawn(name):
    real = create_model(name).state_dict()
    with Called() as called, on_meta():
        shapes = create_model(name).state_dict()
    assert {name: tensor.shape for name, tensor in shapes.items()} == {
        name: tensor.shape for name, tensor in real.items()
    }
    assert all(tensor.is_meta for tensor in shapes.values())
    assert not called.names & {"aten::normal_", "aten::uniform_"}


def test_numbers_are_drawn_again_afterwards():
    with on_meta():
        create_model("lambda_resnet_digits")
    assert torch.empty(8).normal_().std() > 0
