"""Gradients of each image by itself, by opacus and by torch.func, against a loop over the images."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lambdanets.nn import RelativePosition
from support.compare import assert_close
from support.small_network import IMAGE_SIZE, SmallNetwork, images, small_resnet, tool

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LABELS = torch.tensor([0, 2, 1])
# Norms that look at one image at a time.
LAYERS: dict[str, dict[str, Any]] = {
    "without norms": {"normalization": "none"},
    "layer norm": {"normalization": "layer"},
    "content": {"normalization": "none", "positional": False},
    "positions": {"normalization": "none", "content": False},
    "intra-depth": {"normalization": "none", "intra_depth": 2},
    "global": {"normalization": "none", "scope_size": None, "feature_size": (6, 5)},
    "larger than its table": {"normalization": "none", "scope_size": None, "feature_size": 4},
    "position bias": {"normalization": "none", "position_bias": True},
    "stride": {"normalization": "none", "stride": 2},
}

each_layer = pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)


def looped(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """The gradients of each image's loss, one image after another, in the network's own mode."""
    samples = []
    for image, label in zip(batch.split(1), LABELS.split(1), strict=True):
        loss = nn.functional.cross_entropy(network(image), label)
        samples.append(torch.autograd.grad(loss, list(network.parameters())))
    names = [name for name, _ in network.named_parameters()]
    return dict(zip(names, map(torch.stack, zip(*samples, strict=True)), strict=True))


def assert_samples(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, samples in expected.items():
        assert samples.abs().max() > 0, name
        assert_close(actual[name], samples, what=name)


def by_functions(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """As the tutorial of torch.func has it."""

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, (parameters, dict(network.named_buffers())), (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    return vmap(grad(loss), in_dims=(None, 0, 0))(parameters, batch, LABELS)


@each_layer
def test_gradients_by_functions(options: dict[str, Any]) -> None:
    network, batch = SmallNetwork(**options), images(3)
    assert_samples(by_functions(network, batch), looped(network, batch))


def test_gradients_by_functions_with_folded_batch_norms() -> None:
    network, batch = SmallNetwork().eval(), images(3)
    assert_samples(by_functions(network, batch), looped(network, batch))


def test_gradients_by_functions_of_a_network() -> None:
    network, batch = small_resnet().eval(), images(3, IMAGE_SIZE)
    assert_samples(by_functions(network, batch), looped(network, batch))


@pytest.fixture
def sampler_of_positions() -> Any:
    """What docs/interop.md tells opacus: it calls a module it does not know with one input."""
    module = tool("opacus.grad_sample")

    def sample_position(position: RelativePosition, inputs: list[Tensor], grad_out: Tensor) -> Any:
        samples = []
        with torch.enable_grad():
            for *image, grads in zip(*inputs, grad_out, strict=True):
                output = position.forward(*(one[None] for one in image))
                samples.append(torch.autograd.grad(output, list(position.parameters()), grads[None]))
        return dict(zip(position.parameters(), map(torch.stack, zip(*samples, strict=True)), strict=True))

    module.register_grad_sampler(RelativePosition)(sample_position)
    yield module
    del module.GradSampleModule.GRAD_SAMPLERS[RelativePosition]


def by_opacus(network: nn.Module, batch: Tensor, **options: Any) -> dict[str, Tensor]:
    wrapped = tool("opacus.grad_sample").GradSampleModule(network, loss_reduction="sum", **options)
    nn.functional.cross_entropy(wrapped(batch), LABELS, reduction="sum").backward()
    samples = {name: one.grad_sample.detach().clone() for name, one in network.named_parameters()}
    wrapped.remove_hooks()
    return samples


@each_layer
def test_opacus_sees_every_parameter(options: dict[str, Any], sampler_of_positions: Any) -> None:
    network, batch = SmallNetwork(**options), images(3)
    expected = looped(network, batch)
    assert_samples(by_opacus(network, batch), expected)


@pytest.mark.parametrize("force_functorch", [False, True])
def test_opacus_needs_nothing_where_there_is_no_position(force_functorch: bool) -> None:
    network, batch = SmallNetwork(**LAYERS["content"]), images(3)
    expected = looped(network, batch)
    assert_samples(by_opacus(network, batch, force_functorch=force_functorch), expected)


def test_opacus_replaces_batch_norms_as_it_does_everywhere(sampler_of_positions: Any) -> None:
    network = tool("opacus.validators").ModuleValidator.fix(SmallNetwork()).double()
    # Opacus makes a group of each channel, which takes away what is added before it.
    network.stem.bias = None
    for norm in (network.mixer.norm_queries, network.mixer.norm_values):
        nn.init.normal_(norm.bias)
    assert type(network.mixer.norm_queries) is type(network.mixer.norm_values) is nn.GroupNorm
    batch = images(3)
    expected = looped(network, batch)
    assert_samples(by_opacus(network, batch), expected)


def test_a_private_step_is_the_clipped_mean_of_the_samples(sampler_of_positions: Any) -> None:
    """Without noise the private optimizer's step is that of clipped per-sample gradients, by hand."""
    network, batch = SmallNetwork(normalization="none"), images(3)
    expected = looped(network, batch)
    norms = sum(one.flatten(1).square().sum(1) for one in expected.values()).sqrt()
    scale = (0.5 / norms).clamp(max=1)
    wrapped = sampler_of_positions.GradSampleModule(network)
    optimizer = tool("opacus.optimizers").DPOptimizer(
        torch.optim.SGD(network.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=0.5,
        expected_batch_size=3,
    )
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    nn.functional.cross_entropy(wrapped(batch), LABELS).backward()
    optimizer.step()
    assert (norms > 0.5).any()
    for name, parameter in network.named_parameters():
        mean = torch.einsum("b,b...->...", scale, expected[name]) / 3
        # Opacus adds 1e-6 to the norm.
        assert_close(before[name] - parameter, mean, torch.float32, what=name)


def test_norms_by_ghost_clipping_are_those_of_the_samples(sampler_of_positions: Any) -> None:
    network, batch = SmallNetwork(normalization="layer"), images(3)
    expected = sum(one.flatten(1).square().sum(1) for one in looped(network, batch).values()).sqrt()
    wrapped = sampler_of_positions.GradSampleModuleFastGradientClipping(
        network, max_grad_norm=1.0, use_ghost_clipping=True, loss_reduction="sum"
    )
    nn.functional.cross_entropy(wrapped(batch), LABELS, reduction="sum").backward()
    assert_close(wrapped.get_norm_sample(), expected)
