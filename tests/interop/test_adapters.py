"""Adapters of peft on the projections of lambda layers, against weights changed by hand."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lambdanets.nn import LambdaLayer, LambdaLayer1d, LambdaLayer3d
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

# Each kind in its own words, all with a rank of 2 where there is one.
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {"r": 2, "lora_alpha": 3}),
    "dora": ("LoraConfig", {"r": 2, "use_dora": True}),
    "ia3": ("IA3Config", {"feedforward_modules": []}),
    "loha": ("LoHaConfig", {"r": 2}),
    "lokr": ("LoKrConfig", {"r": 2}),
    "oft": ("OFTConfig", {"oft_block_size": 2}),
}


def adapted(network: nn.Module, kind: str, targets: tuple[str, ...] = PROJECTIONS) -> Any:
    """The network with adapters that change something: peft starts them where nothing changes."""
    peft = tool("peft")
    name, options = ADAPTERS[kind]
    model = peft.get_peft_model(network, getattr(peft, name)(target_modules=list(targets), **options))
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def low_rank(adapter: Any) -> Tensor:
    """B·A·α/r of one projection."""
    down, up = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
    return 3 / 2 * (up.flatten(1) @ down.flatten(1))


@pytest.mark.parametrize("target", PROJECTIONS)
def test_lora_adds_its_product_of_two_to_the_weight(target: str) -> None:
    network, batch = SmallNetwork().eval(), images()
    weight = getattr(network.mixer, target).weight.detach().clone()
    model = adapted(network, "lora", (target,))
    with model.disable_adapter():
        before = model(batch)
    plain = copy.deepcopy(model).unload()
    assert_close(before, written_out(plain, batch.shape[2:], projected(plain, batch)))
    changed = {target: weight.flatten(1) + low_rank(getattr(model.base_model.model.mixer, target))}
    after = written_out(plain, batch.shape[2:], projected(plain, batch, changed))
    assert_close(model(batch), after)
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ADAPTERS)
def test_merged_weights_give_what_the_adapters_gave(kind: str) -> None:
    batch = images()
    model = adapted(SmallNetwork(), kind)
    with model.disable_adapter():
        before = model(batch)
    after = model(batch)
    assert (after - before).abs().max() > 1e-3
    merged = model.merge_and_unload()
    assert all(type(getattr(merged.mixer, name)) is nn.Conv2d for name in PROJECTIONS)
    assert_close(merged(batch), after)
    assert_close(after, written_out(merged, batch.shape[2:], projected(merged, batch)))


@pytest.mark.parametrize("kind", ADAPTERS)
def test_training_changes_adapters_alone(kind: str) -> None:
    model, batch = adapted(SmallNetwork(normalization="none"), kind).train(), images()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    nn.functional.cross_entropy(model(batch), torch.tensor([0, 2])).backward()
    optimizer.step()
    changed = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
    assert len(trained) >= len(PROJECTIONS)
    assert changed == trained


@pytest.mark.parametrize("kind", ADAPTERS)
def test_saved_adapters_come_back(kind: str, tmp_path: Path) -> None:
    network, batch = SmallNetwork().eval(), images()
    model = adapted(copy.deepcopy(network), kind)
    model.save_pretrained(str(tmp_path))
    loaded = tool("peft").PeftModel.from_pretrained(copy.deepcopy(network), str(tmp_path)).double().eval()
    # Files hold float64 as it is, so that the same numbers give the same bits.
    assert_equal(loaded(batch), model(batch))


def test_one_of_two_adapters_acts() -> None:
    peft, batch = tool("peft"), images()
    model = adapted(SmallNetwork(), "lora", ("to_keys",))
    first = model(batch)
    model.add_adapter("second", peft.LoraConfig(target_modules=["to_values"], r=2, init_lora_weights=False))
    model.double().set_adapter("second")
    second = model(batch)
    assert (second - first).abs().max() > 1e-3
    model.set_adapter("default")
    assert_equal(model(batch), first)


def test_lora_reaches_every_lambda_layer_of_a_network() -> None:
    model = adapted(small_resnet(), "lora")
    assert len([name for name, _ in model.named_modules() if name.endswith("lora_A")]) == 4 * len(PROJECTIONS)
    batch = images(size=IMAGE_SIZE)
    nn.functional.cross_entropy(model(batch), torch.tensor([0, 2])).backward()
    trained = [one for one in model.parameters() if one.requires_grad]
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in trained)
    after = model(batch)
    assert_close(model.merge_and_unload()(batch), after)


@pytest.mark.parametrize(("kind_of_layer", "size"), [(LambdaLayer1d, (7,)), (LambdaLayer3d, (2, 3, 4))])
def test_sequences_and_volumes_take_lora(kind_of_layer: Any, size: tuple[int, ...]) -> None:
    """Against weights changed by hand: peft merges no 1×1×1 convolution, in a plain network neither."""
    maps = torch.randn(2, 8, *size, dtype=torch.float64)
    layer = kind_of_layer(8, scope_size=3).double()
    by_hand = copy.deepcopy(layer).eval()
    model = adapted(layer, "lora")
    for name in PROJECTIONS:
        weight = getattr(by_hand, name).weight
        weight.data += low_rank(getattr(layer, name)).view_as(weight)
    assert_close(model(maps), by_hand(maps))
    with model.disable_adapter():
        assert (model(maps) - by_hand(maps)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
@pytest.mark.parametrize("options", [{}, {"causal": True, "normalization": "layer"}, {"position": "dense"}])
def test_layers_of_tokens_take_adapters(kind: str, options: dict[str, Any]) -> None:
    layer = LambdaLayer(8, feature_size=7, **options).double()
    tokens = torch.randn(2, 7, 8, dtype=torch.float64)
    model = adapted(layer, kind)
    with model.disable_adapter():
        before = model(tokens)
    after = model(tokens)
    assert (after - before).abs().max() > 1e-3
    assert_close(model.merge_and_unload()(tokens), after)
