"""The ResNets: shapes on any image, identity at the start, checkpointing, sharing."""

from typing import get_args

import pytest
import torch
from torch import nn

from lambdanets.analysis.memory import saved_bytes
from lambdanets.models import ResNet, ResNetConfig, create_model, on_meta
from lambdanets.models.mixers import MixerName
from lambdanets.models.resnet import Bottleneck, _make_stem
from lambdanets.nn import LambdaLayer2d, RelativePosition
from support.compare import assert_close, assert_equal

SMALL = {
    "depths": (1, 2, 1, 1),
    "widths": (8, 8, 16, 16),
    "num_classes": 5,
    "query_depth": 4,
    "scope_size": 5,
}


def small(**options) -> ResNet:
    """Options of the lambda layers stand beside the others, as in `create_model`."""
    return create_model("resnet50", **{**SMALL, **options})


@pytest.mark.parametrize("size", [(33, 50), (25, 31)])
@pytest.mark.parametrize("stem", ["classic", "deep", "small"])
@pytest.mark.parametrize("shortcut", ["convolution", "pool"])
def test_features_have_the_channels_and_strides_they_claim(size, stem: str, shortcut: str) -> None:
    model = small(stem=stem, shortcut=shortcut, layers="LCLL", squeeze_excitation=("c3",)).eval()
    features = model.features(torch.randn(1, 3, *size))
    assert list(features) == ["c2", "c3", "c4", "c5"]
    for stage, maps in features.items():
        stride = model.strides[stage]
        expected = (model.channels[stage], *(-(-side // stride) for side in size))
        assert tuple(maps.shape[1:]) == expected
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize("mixer", get_args(MixerName))
def test_every_attention_serves_any_stage_on_any_map(mixer: str) -> None:
    model = small(
        stem="small", layers="AAAA", mixer=mixer, attention_heads=2, attention_window=3, image_size=(9, 6)
    )
    for size in [(9, 6), (5, 13), (1, 2)]:
        images = torch.randn(2, 3, *size)
        features = model.features(images)
        assert [tuple(maps.shape[2:]) for maps in features.values()] == [
            tuple(-(-side // stride) for side in size) for stride in model.strides.values()
        ]
        model(images).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
    with on_meta():
        assert small(layers="CACA", mixer=mixer, attention_heads=2).c3[0].mixer is not None


def test_attention_keeps_its_own_initialization() -> None:
    model = small(layers="AAAA", mixer="axial_attention", widths=(64, 64, 64, 64))
    std = model.c2[0].mixer.rows.to_queries.weight.std().item()
    assert std == pytest.approx(64**-0.5, rel=0.1)


def test_every_residual_branch_starts_at_zero() -> None:
    model = small(layers="CLCL", zero_gamma=True)
    for block in model.modules():
        if isinstance(block, Bottleneck):
            inputs = torch.randn(2, block.reduce.in_channels, 8, 8)
            assert_equal(block(inputs), torch.relu(block.shortcut(inputs)))
    assert not any(
        torch.equal(block.norm_expand.weight, torch.zeros_like(block.norm_expand.weight))
        for block in small(zero_gamma=False).modules()
        if isinstance(block, Bottleneck)
    )


def test_pool_shortcut_averages_what_is_inside_on_odd_maps() -> None:
    pool = small(shortcut="pool").c3[0].shortcut[0]
    maps = torch.arange(9.0).view(1, 1, 3, 3)
    assert_equal(pool(maps)[0, 0], torch.tensor([[2.0, 3.5], [6.5, 8.0]]))


def test_dropout_and_stochastic_depth_are_where_the_paper_has_them() -> None:
    model = small(dropout=0.3, stochastic_depth=0.2)
    rates = [model.get_submodule(stage)[0].stochastic_depth.rate for stage in ("c2", "c3", "c4", "c5")]
    assert rates == pytest.approx([0.08, 0.12, 0.16, 0.2])
    assert model.dropout.p == 0.3


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    # In double precision, so that the order of sums shows at 1e-16 and a wrong statistic at 1e-1.
    plain, saving = small(layers="LLCC").double(), small(layers="LLCC").double()
    saving.load_state_dict(plain.state_dict())
    saving.set_gradient_checkpointing()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for model in (plain, saving):
        for _ in range(2):
            model(images).square().sum().backward()
    for (name, expected), actual in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert_close(actual.grad, expected.grad, what=name)
    for (name, expected), actual in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert_close(actual, expected, what=name)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_stages_and_what_is_in_them_are_called(checkpointing: bool) -> None:
    """A hook on a stage changes what comes behind it, as one on its last block does."""
    model, images = small(layers="CLLL", squeeze_excitation=("c2",)), torch.randn(2, 3, 32, 32)
    model.set_gradient_checkpointing(checkpointing)
    calls: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(images)
    assert sorted(calls) == sorted(name for name, _ in model.named_modules())
    outputs = []
    for hooked in (model.c3, model.c3[-1]):
        handle = hooked.register_forward_hook(lambda module, inputs, output: 0 * output)
        outputs.append(model.eval()(images))
        handle.remove()
    assert_equal(*outputs)
    assert not torch.equal(outputs[0], model(images))


def test_a_stage_can_be_replaced() -> None:
    model, images = small(layers="CLLL").eval(), torch.randn(2, 3, 32, 32)
    expected = model(images)
    model.c4 = nn.Sequential(model.c4, nn.Identity())
    assert_equal(model(images), expected)


def test_gradient_checkpointing_keeps_less() -> None:
    model, images = small(layers="LLLL", depths=(2, 2, 2, 2)), torch.randn(2, 3, 32, 32)
    whole = saved_bytes(model, images)
    model.set_gradient_checkpointing()
    assert saved_bytes(model, images) < whole / 3
    model.set_gradient_checkpointing(False)
    assert saved_bytes(model, images) == whole


def test_stage_shares_one_position_table() -> None:
    model = small(layers="CLLL", share_position="stage")
    tables = {
        stage: [p for p in model.get_submodule(stage).modules() if isinstance(p, RelativePosition)]
        for stage in ("c3", "c4", "c5")
    }
    assert [len(found) for found in tables.values()] == [1, 1, 1]
    own = small(layers="CLLL")
    extra = sum(parameter.numel() for parameter in own.parameters())
    extra -= sum(parameter.numel() for parameter in model.parameters())
    # c3 has two lambda layers, and one table of u·k·r² less.
    assert extra == 4 * 5 * 5


def test_shared_global_table_covers_the_largest_map_of_its_stage() -> None:
    model = small(layers="CLCC", share_position="stage", scope_size=None, image_size=64)
    # c3's first block sees 16×16 before its pool, the second 8×8.
    assert model.c3[0].mixer.position.table.shape[2:] == (31, 31)
    assert model.c3[0].mixer.position is model.c3[1].mixer.position


def test_global_model_runs_on_other_sizes_than_it_was_made_for() -> None:
    model = small(layers="LLLL", scope_size=None, image_size=(32, 48)).eval()
    assert model.c2[0].mixer.position.table.shape[2:] == (15, 23)
    for size in [(32, 48), (20, 70), (64, 64)]:
        assert model(torch.randn(1, 3, *size)).isfinite().all()


def test_squeeze_excitation_is_never_in_a_lambda_block() -> None:
    model = small(layers="CCLC", lambda_blocks={"c3": (2,)}, squeeze_excitation=("c2", "c3", "c4"))
    blocks = [*model.c2, *model.c3, *model.c4, *model.c5]
    squeezed = [not isinstance(block.squeeze_excitation, nn.Identity) for block in blocks]
    lambdas = [isinstance(block.mixer, LambdaLayer2d) for block in blocks]
    assert squeezed == [True, True, False, False, False]
    assert lambdas == [False, False, True, True, False]
    assert model.c2[0].squeeze_excitation.squeeze.out_channels == 8


def test_stems_have_the_papers_layers() -> None:
    sides = {
        stem: [m.kernel_size[0] for m in _make_stem(ResNetConfig(stem=stem)) if isinstance(m, nn.Conv2d)]
        for stem in ("classic", "deep", "small")
    }
    assert sides == {"classic": [7], "deep": [3, 3, 3, 3], "small": [3]}
    widths = [m.out_channels for m in _make_stem(ResNetConfig(stem="deep")) if isinstance(m, nn.Conv2d)]
    assert widths == [32, 32, 64, 64]


@pytest.mark.slow
def test_lambda_resnet_learns_to_tell_32_images_apart() -> None:
    model = create_model("lambda_resnet_digits", num_classes=4, in_channels=1)
    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_training_step_is_finite(dtype: torch.dtype) -> None:
    model = small(layers="LLLL", scope_size=23, query_depth=16)
    with torch.autocast("cpu", dtype):
        loss = model(torch.randn(4, 3, 64, 64)).float().square().mean()
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
