"""Maps as rows of channels: the same from either order, and gradients in the order of the inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lambdanets.functional._layout import _SMALL_MAP, channels_are_last, project_rows, to_channels_first
from lambdanets.nn import LambdaLayer1d, LambdaLayer2d, LambdaLayer3d
from lambdanets.nn.children import _normalize_rows, make_normalization
from support.compare import assert_close, assert_equal

SMALL, LARGE = (3, 4), (_SMALL_MAP, 2)


def channels_first(inputs: Tensor) -> Tensor:
    return inputs.contiguous()


def channels_last(inputs: Tensor) -> Tensor:
    return inputs.movedim(1, -1).contiguous().movedim(-1, 1)


each_order = pytest.mark.parametrize("order", [channels_first, channels_last])


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("bias", [None, draw(5)], ids=["no bias", "bias"])
@pytest.mark.parametrize("size", [(7,), SMALL, LARGE, (2, 3, 4)], ids=str)
@each_order
def test_a_projection_is_a_convolution_of_one_element(
    order: Callable[[Tensor], Tensor], size: tuple[int, ...], bias: Tensor | None
) -> None:
    inputs, weight = order(draw(2, 6, *size)), draw(5, 6)
    expected = torch.einsum("od,bdn->bno", weight, inputs.flatten(2))
    actual = project_rows(inputs, weight, bias)
    assert actual.is_contiguous()
    assert_close(actual, expected if bias is None else expected + bias)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
@each_order
def test_gradients_of_a_projection_come_in_the_order_of_its_inputs(
    order: Callable[[Tensor], Tensor], size: tuple[int, ...]
) -> None:
    inputs, weight, bias = order(draw(2, 6, *size)), draw(5, 6), draw(5)
    leaves = [one.requires_grad_() for one in (inputs, weight, bias)]
    outer = draw(2, size[0] * size[1], 5)
    actual = torch.autograd.grad(project_rows(*leaves), leaves, outer)
    plain = torch.nn.functional.linear(inputs.flatten(2).transpose(1, 2), weight, bias)
    for one, expected in zip(actual, torch.autograd.grad(plain, leaves, outer), strict=True):
        assert_close(one, expected)
    assert channels_are_last(actual[0], axis=1) == channels_are_last(inputs, axis=1)
    assert actual[0].stride() == inputs.stride()


@pytest.mark.usefixtures("unchecked")
@each_order
def test_a_projection_can_be_differentiated_twice(order: Callable[[Tensor], Tensor]) -> None:
    leaves = [one.requires_grad_() for one in (order(draw(2, 3, 2, 2)), draw(4, 3), draw(4))]
    assert torch.autograd.gradcheck(project_rows, leaves)
    assert torch.autograd.gradgradcheck(project_rows, leaves)


def test_a_projection_maps_over_a_further_axis() -> None:
    inputs, weight = draw(3, 2, 6, *SMALL), draw(5, 6)
    mapped = torch.vmap(project_rows, in_dims=(0, None))(inputs, weight.requires_grad_())
    assert_close(mapped.detach(), torch.stack([project_rows(one, weight) for one in inputs]).detach())


def test_channels_first_and_back() -> None:
    inputs = channels_last(draw(2, 6, *SMALL)).requires_grad_()
    copied = to_channels_first(inputs)
    assert copied.is_contiguous()
    assert_equal(copied.detach(), inputs.detach())
    (gradient,) = torch.autograd.grad(copied, inputs, draw(2, 6, *SMALL))
    assert gradient.stride() == inputs.stride()
    assert_equal(gradient, draw(2, 6, *SMALL))


@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
@pytest.mark.parametrize("size", [(7,), SMALL, (2, 3, 4)], ids=str)
def test_norms_of_rows_are_norms_of_maps(size: tuple[int, ...], normalization: str) -> None:
    norm = make_normalization(normalization, 6, len(size)).double()
    maps = draw(2, 6, *size)
    expected = norm(maps)
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        norm.reset_running_stats()
    rows = _normalize_rows(maps.flatten(2).transpose(1, 2), norm)
    assert_close(rows.transpose(1, 2).unflatten(2, size), expected)


LAYERS = [(LambdaLayer1d, (9,)), (LambdaLayer2d, (5, 4)), (LambdaLayer3d, (2, 3, 4))]


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "size"), LAYERS)
@each_order
def test_outputs_of_a_layer_come_in_the_order_of_its_inputs(
    order: Callable[[Tensor], Tensor], kind: type[LambdaLayer2d], size: tuple[int, ...], train: bool
) -> None:
    layer = kind(8, scope_size=3, query_depth=4).double().train(train)
    inputs = draw(2, 8, *size)
    output = layer(order(inputs))
    assert channels_are_last(output, axis=1) == (order is channels_last)
    assert_close(output.detach(), layer(inputs).detach())


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.usefixtures("unchecked")
@each_order
def test_gradients_of_one_image_are_right(order: Callable[[Tensor], Tensor], b: int) -> None:
    """torch's batch norm differentiates one image wrongly when its gradient has the channels last."""
    layer = LambdaLayer2d(8, scope_size=3, query_depth=4, num_heads=2).double()
    inputs = order(draw(b, 8, 3, 4)).requires_grad_()

    def with_parameters(images: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        found: Tensor = torch.func.functional_call(
            layer, dict(zip(names, parameters, strict=True)), (images,)
        )
        return found

    assert torch.autograd.gradcheck(with_parameters, (inputs, *layer.parameters()), fast_mode=True)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_projection_of_16_bits_sums_in_more(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    leaves = [one.to(dtype).requires_grad_() for one in (draw(2, 300, *size), draw(5, 300), draw(5))]
    exact = [one.detach().double().requires_grad_() for one in leaves]
    outer = draw(2, size[0] * size[1], 5).to(dtype)
    actual, expected = project_rows(*leaves), project_rows(*exact)
    assert_close(actual.detach(), expected.detach(), dtype)
    found = torch.autograd.grad(actual, leaves, outer)
    for one, right in zip(found, torch.autograd.grad(expected, exact, outer.double()), strict=True):
        assert one.dtype == dtype
        # Rounded once, at the end.
        assert_close(one, right, dtype)


def test_autocast_decides_the_precision_of_a_projection() -> None:
    inputs, weight = draw(2, 6, *SMALL).float(), draw(5, 6).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert project_rows(inputs, weight).dtype == torch.bfloat16
