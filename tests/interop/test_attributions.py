"""Attributions of captum at inner projections, against derivatives of the network written out."""

import pytest
import torch
from torch import Tensor

from support.compare import assert_close, assert_equal
from support.small_network import (
    IMAGE_SIZE,
    PROJECTIONS,
    SmallNetwork,
    images,
    projected,
    small_resnet,
    tool,
    written_out,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TARGETS = torch.tensor([1, 2])


def map_and_gradient(network: SmallNetwork, batch: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """What a projection gives, and the derivative of each image's logit by it."""
    maps = projected(network, batch)
    index = PROJECTIONS.index(name)
    maps[index] = maps[index].detach().requires_grad_()
    logits = written_out(network, batch.shape[2:], maps)[torch.arange(len(batch)), TARGETS]
    (gradient,) = torch.autograd.grad(logits.sum(), maps[index])
    size = batch.shape[2:]
    return maps[index].detach().unflatten(2, size), gradient.unflatten(2, size)


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("training", [False, True])
def test_activations_are_what_the_projection_gives(name: str, training: bool) -> None:
    network, batch = SmallNetwork().train(training), images()
    layer = getattr(network.mixer, name)
    seen = tool("captum.attr").LayerActivation(network, layer).attribute(batch)
    assert_equal(seen, layer(network.stem(batch)))


@pytest.mark.parametrize("name", PROJECTIONS)
def test_grad_cam_weighs_channels_by_their_mean_gradients(name: str) -> None:
    # A softmax over positions leaves the keys no mean gradient.
    network, batch = SmallNetwork(key_normalization="l2").eval(), images()
    cam = tool("captum.attr").LayerGradCam(network, getattr(network.mixer, name))
    maps, gradient = map_and_gradient(network, batch, name)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True)
    assert expected.abs().max() > 1e-6
    assert_close(cam.attribute(batch, target=TARGETS), expected)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_gradient_times_activation_of_a_projection(name: str) -> None:
    network, batch = SmallNetwork().eval(), images()
    layer = tool("captum.attr").LayerGradientXActivation(network, getattr(network.mixer, name))
    maps, gradient = map_and_gradient(network, batch, name)
    assert_close(layer.attribute(batch, target=TARGETS), maps * gradient)


def test_saliency_is_the_written_out_derivative() -> None:
    network, batch = SmallNetwork().eval(), images().requires_grad_()
    logits = written_out(network, batch.shape[2:], projected(network, batch))
    (expected,) = torch.autograd.grad(logits[torch.arange(2), TARGETS].sum(), batch)
    actual = tool("captum.attr").Saliency(network).attribute(batch.detach(), target=TARGETS, abs=False)
    assert_close(actual, expected)


def test_integrated_gradients_add_up_to_the_change_of_the_logit() -> None:
    """Without a softmax the network is a polynomial, for which Gauss-Legendre points are exact."""
    network, batch = SmallNetwork(key_normalization="none").eval(), images()
    method = tool("captum.attr").IntegratedGradients(network)
    actual = method.attribute(batch, target=TARGETS, n_steps=20, method="gausslegendre")
    change = (network(batch) - network(torch.zeros_like(batch)))[torch.arange(2), TARGETS]
    # Captum's points have 32 bits.
    assert_close(actual.sum((1, 2, 3)), change, torch.float32)


def test_integrated_gradients_of_values_add_up_to_what_the_values_change() -> None:
    """The layer is linear in its values: queries and keys stay those of the image."""
    network, batch = SmallNetwork().eval(), images()
    method = tool("captum.attr").LayerIntegratedGradients(network, network.mixer.norm_values)
    actual = method.attribute(batch, target=TARGETS, n_steps=4, method="riemann_left")
    queries, keys, values = projected(network, batch)
    *_, no_values = projected(network, torch.zeros_like(batch))
    after = written_out(network, batch.shape[2:], [queries, keys, values])
    before = written_out(network, batch.shape[2:], [queries, keys, no_values])
    assert_close(actual.sum((1, 2, 3)), (after - before)[torch.arange(2), TARGETS])


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_channel_that_is_ablated_is_missing(name: str) -> None:
    network, batch = SmallNetwork().eval(), images()
    index, indices = PROJECTIONS.index(name), torch.arange(len(batch))
    maps = projected(network, batch)
    channels = maps[index].shape[1]
    mask = torch.arange(channels).view(1, -1, 1, 1).expand(1, -1, *batch.shape[2:])
    ablation = tool("captum.attr").LayerFeatureAblation(network, getattr(network.mixer, name))
    actual = ablation.attribute(batch, target=TARGETS, layer_mask=mask)
    before = written_out(network, batch.shape[2:], maps)[indices, TARGETS]
    for channel in range(channels):
        without = list(maps)
        without[index] = maps[index].index_fill(1, torch.tensor(channel), 0)
        after = written_out(network, batch.shape[2:], without)[indices, TARGETS]
        assert_close(actual[:, channel, 0, 0], before - after)


def test_grad_cam_of_a_network_s_last_lambda_layer() -> None:
    model, batch = small_resnet().eval(), images(size=IMAGE_SIZE)
    layer = model.c5[0].mixer.norm_values
    cam = tool("captum.attr").LayerGradCam(model, layer).attribute(batch, target=TARGETS)
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda *call: seen.append(call[2]))
    logits = model(batch)[torch.arange(2), TARGETS]
    (gradient,) = torch.autograd.grad(logits.sum(), seen)
    assert_close(cam, (gradient.mean((2, 3), keepdim=True) * seen[0]).sum(1, keepdim=True))
    assert cam.abs().max() > 0
