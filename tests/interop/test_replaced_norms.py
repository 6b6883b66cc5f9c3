"""Norms that tools of torch, timm and torchvision fuse, freeze or convert, and weights that they prune."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

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

pytestmark = pytest.mark.slow


def fused(network: nn.Module) -> nn.Module:
    for layer in [one for one in network.modules() if hasattr(one, "to_queries")]:
        for name in ("queries", "values"):
            projection, norm = getattr(layer, f"to_{name}"), getattr(layer, f"norm_{name}")
            setattr(layer, f"to_{name}", fuse_conv_bn_eval(projection, norm))
            setattr(layer, f"norm_{name}", nn.Identity())
    return network


def frozen_by_timm(network: nn.Module) -> nn.Module:
    return tool("timm.utils.model").freeze_batch_norm_2d(network)


def frozen_by_torchvision(network: nn.Module) -> nn.Module:
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(norm.num_features, norm.eps).double()
                frozen.load_state_dict(norm.state_dict())
                setattr(parent, name, frozen)
    return network


def converted(network: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


CHANGES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "fused": fused,
    "frozen by timm": frozen_by_timm,
    "frozen by torchvision": frozen_by_torchvision,
    "converted": converted,
}
STILL = [name for name in CHANGES if name.startswith("frozen")]

each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@each_change
def test_a_layer_gives_in_eval_mode_what_it_gave(change: Callable[[nn.Module], nn.Module]) -> None:
    network, batch = SmallNetwork().eval(), images()
    expected = written_out(network, batch.shape[2:], projected(network, batch))
    assert_close(change(network)(batch), expected)


@pytest.mark.parametrize(
    ("change", "training"),
    [*((change, False) for change in CHANGES.values()), *((CHANGES[name], True) for name in STILL)],
    ids=[*(f"{name}, eval" for name in CHANGES), *(f"{name}, train" for name in STILL)],
)
def test_gradients_are_those_of_before(change: Callable[[nn.Module], nn.Module], training: bool) -> None:
    """Those of the inputs and of the keys, which no change renames; in train mode where norms stand still."""
    network, batch = SmallNetwork().eval(), images().requires_grad_()
    output = written_out(network, batch.shape[2:], projected(network, batch))
    wanted = [batch, network.mixer.to_keys.weight, network.mixer.position.table]
    expected = torch.autograd.grad(output.square().sum(), wanted)
    changed = change(network).train(training)
    actual = torch.autograd.grad(changed(batch).square().sum(), wanted)
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other)


@each_change
def test_a_network_gives_in_eval_mode_what_it_gave(change: Callable[[nn.Module], nn.Module]) -> None:
    network, batch = small_resnet().eval(), images(size=IMAGE_SIZE)
    expected = network(batch)
    assert_close(change(copy.deepcopy(network))(batch), expected)


@pytest.mark.parametrize("change", [CHANGES[name] for name in STILL], ids=STILL)
def test_frozen_norms_do_not_move_in_training(change: Callable[[nn.Module], nn.Module]) -> None:
    network, batch = small_resnet().eval(), images(size=IMAGE_SIZE)
    expected = network(batch)
    frozen = change(copy.deepcopy(network)).train()
    before = copy.deepcopy(frozen.state_dict())
    assert_close(frozen(batch), expected)
    assert all(torch.equal(one, before[name]) for name, one in frozen.state_dict().items())


def test_frozen_by_timm_and_thawed_again_is_the_network_of_before() -> None:
    network, batch = small_resnet().eval(), images(size=IMAGE_SIZE)
    expected = network(batch)
    thawed = tool("timm.utils.model").unfreeze_batch_norm_2d(frozen_by_timm(copy.deepcopy(network)))
    assert type(thawed.c2[0].mixer.norm_queries) is nn.BatchNorm2d
    assert_equal(thawed.eval()(batch), expected)
    # In train mode statistics move again, as they do in the network of before; timm forgets by how much.
    for norm in [one for one in thawed.modules() if isinstance(one, nn.BatchNorm2d)]:
        norm.momentum = network.c2[0].norm_reduce.momentum
    assert_close(thawed.train()(batch), network.train()(batch))
    for name, buffer in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            assert_close(thawed.get_buffer(name), buffer, what=name)


@pytest.mark.parametrize("part", ["c4", "c5.0.mixer", "c5.0.mixer.norm_values"])
def test_a_part_frozen_by_timm_stands_still_while_the_rest_moves(part: str) -> None:
    network = small_resnet().train()
    model = tool("timm.utils.model")
    model.freeze(network, part)
    frozen = {f"{part}.{name}": one.clone() for name, one in network.get_submodule(part).state_dict().items()}
    before = {name: one.clone() for name, one in network.state_dict().items()}
    optimizer = torch.optim.SGD([one for one in network.parameters() if one.requires_grad], lr=0.1)
    nn.functional.cross_entropy(network(images(4, IMAGE_SIZE)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    after = network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in frozen.items())
    others = [name for name in before if not name.startswith(part) and "running" in name]
    assert all(not torch.equal(after[name], before[name]) for name in others)


def test_statistics_are_gathered_anew_as_by_calls() -> None:
    """torch's `update_bn` takes the mean over batches, not the moving one."""
    network, batches = small_resnet(), [images(4, IMAGE_SIZE) for _ in range(3)]
    called = copy.deepcopy(network)
    for module in called.modules():
        module.register_forward_hook(lambda *_: None)
    torch.optim.swa_utils.update_bn(batches, network)
    torch.optim.swa_utils.update_bn(batches, called)
    for name, buffer in called.named_buffers():
        assert_close(network.get_buffer(name), buffer, what=name)
    assert network.c5[0].mixer.norm_values.num_batches_tracked == 3


def pruned_weights(network: SmallNetwork) -> dict[str, Tensor]:
    return {
        name: getattr(network.mixer, name).weight_orig * getattr(network.mixer, name).weight_mask
        for name in PROJECTIONS
    }


def test_weights_pruned_while_training_stay_zero() -> None:
    """Three rounds of a third each and a step after each; the output is that of the masked weights."""
    network, batch = SmallNetwork(), images(4)
    projections = [(getattr(network.mixer, name), "weight") for name in PROJECTIONS]
    zeros = 0
    for _ in range(3):
        prune.global_unstructured(projections, prune.L1Unstructured, amount=1 / 3)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        optimizer.zero_grad()
        before = [module.weight_orig.detach().clone() for module, _ in projections]
        nn.functional.cross_entropy(network.train()(batch), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        for (module, _), weight in zip(projections, before, strict=True):
            kept = module.weight_mask.bool()
            assert not torch.equal(module.weight_orig[kept], weight[kept])
            assert_equal(module.weight_orig[~kept], weight[~kept])
        weights = pruned_weights(network.eval())
        pruned = sum(int((weight == 0).sum()) for weight in weights.values())
        assert pruned > zeros
        zeros = pruned
        assert_close(
            network(batch), written_out(network, batch.shape[2:], projected(network, batch, weights))
        )
    expected = network(batch)
    for module, name in projections:
        prune.remove(module, name)
    assert_close(network(batch), expected)
    assert sum(int((module.weight == 0).sum()) for module, _ in projections) == zeros


def test_whole_channels_of_a_projection_can_be_pruned() -> None:
    network, batch = SmallNetwork().eval(), images()
    prune.ln_structured(network.mixer.to_values, "weight", amount=2, n=2, dim=0)
    weights = {"to_values": network.mixer.to_values.weight_orig * network.mixer.to_values.weight_mask}
    assert int((weights["to_values"].flatten(1).abs().sum(1) == 0).sum()) == 2
    assert_close(network(batch), written_out(network, batch.shape[2:], projected(network, batch, weights)))
