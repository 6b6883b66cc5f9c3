"""Attention in windows: the equations, laws, and what blocks and borders must not change."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lambdanets.functional import (
    global_attention,
    local_attention,
    local_relation,
    vector_attention,
    window_values,
)
from lambdanets.functional.attention import blocks, local
from lambdanets.functional.attention.local import Appearance
from support.attention import draw, loop_attention, loop_relation, loop_vectors
from support.compare import assert_close, assert_equal
from support.oracles import assert_specified

SIZES = [((5,), (3,)), ((3, 4), (3, 5)), ((4, 1), (7, 3)), ((2, 3, 2), (3, 1, 3))]
each_size = pytest.mark.parametrize(("size", "window"), SIZES, ids=str)
each_attention = pytest.mark.parametrize("impl", [one.name for one in local._ATTENTIONS])
each_relation = pytest.mark.parametrize("impl", [one.name for one in local.RELATIONS])
each_aggregation = pytest.mark.parametrize("impl", [one.name for one in local._AGGREGATIONS])
sides = st.tuples(st.integers(1, 11), st.integers(1, 11))


@each_size
def test_local_attention_is_the_softmax_over_the_window(
    size: tuple[int, ...], window: tuple[int, ...]
) -> None:
    q, k, v = draw((2, 2, 3, *size), (2, 2, 3, *size), (2, 2, 4, *size))
    tables = draw(*[(3, side) for side in window])
    plain = local_attention(q, k, v, window_size=window, impl="reference")
    assert_specified(plain, loop_attention(q, k, v, window=window))
    relative = local_attention(q, k, v, tables, window_size=window, impl="reference")
    assert_specified(relative, loop_attention(q, k, v, tables, window))


@pytest.mark.parametrize("appearance", get_args(Appearance))
@each_size
def test_local_relation_is_the_softmax_of_likeness_and_geometry(
    size: tuple[int, ...], window: tuple[int, ...], appearance: str
) -> None:
    q, k, v, prior = draw((2, 2, 2, *size), (2, 2, 2, *size), (2, 2, 4, *size), (2, *window))
    actual = local_relation(q, k, v, prior, appearance=appearance, impl="reference")
    assert_specified(actual, loop_relation(q, k, v, prior, appearance))
    assert_close(local_relation(q, k, v, prior, appearance=appearance, impl="shifts"), actual)


@pytest.mark.parametrize("normalize", [True, False])
@each_size
def test_vector_attention_sums_the_window(
    size: tuple[int, ...], window: tuple[int, ...], normalize: bool
) -> None:
    weights, v = draw((2, 2, torch.tensor(window).prod().item(), *size), (2, 2, 4, *size))
    actual = vector_attention(weights, v, window_size=window, normalize=normalize, impl="reference")
    assert_specified(actual, loop_vectors(weights, v, window, normalize))


@given(size=sides, window=st.sampled_from([(1, 1), (3, 3), (3, 7), (25, 5)]))
def test_blocks_of_any_size_are_the_map_whole(size: tuple[int, int], window: tuple[int, int]) -> None:
    q, k, v = draw(*[(2, 2, 3, *size)] * 3)
    tables = draw((3, window[0]), (3, window[1]))
    expected = local_attention(q, k, v, tables, window_size=window, impl="reference")
    for longest in (2, 3, 8):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(blocks._LONGEST_SIDE, 2, longest)
            assert_close(local_attention(q, k, v, tables, window_size=window, impl="blocks"), expected)


@given(size=sides)
@each_attention
def test_a_window_that_covers_the_map_is_global_attention(impl: str, size: tuple[int, int]) -> None:
    q, k, v = draw(*[(2, 2, 3, *size)] * 3)
    window = tuple(2 * length - 1 for length in size)
    tables = draw(*[(3, side) for side in window])
    actual = local_attention(q, k, v, tables, window_size=window, impl=impl)
    assert_close(actual, global_attention(q, k, v, tables, impl="reference"))


@given(size=sides)
@each_attention
def test_a_window_of_one_element_is_its_value(impl: str, size: tuple[int, int]) -> None:
    q, k, v = draw(*[(2, 2, 3, *size)] * 3)
    assert_close(local_attention(q, k, v, window_size=1, impl=impl), v)


@each_attention
def test_moves_with_the_image(impl: str) -> None:
    q, k, v = draw(*[(1, 2, 3, 12, 13)] * 3)
    tables = draw((3, 5), (3, 5))
    whole = local_attention(q, k, v, tables, window_size=5, impl=impl)
    moved = local_attention(*(x[..., 1:, 2:] for x in (q, k, v)), tables, window_size=5, impl=impl)
    assert_close(moved[..., 2:, 2:], whole[..., 3:, 4:])


@each_relation
def test_a_geometry_of_one_offset_reads_that_neighbour(impl: str) -> None:
    q, v = torch.zeros(1, 2, 1, 4, 5, dtype=torch.float64), draw((1, 2, 3, 4, 5))[0]
    prior = torch.zeros(2, 3, 3, dtype=torch.float64)
    prior[:, 1, 2] = 800.0
    output = local_relation(q, q, v, prior, impl=impl)
    assert_close(output[..., :-1], v[..., 1:])


@given(size=sides)
@each_relation
def test_products_and_squared_differences_agree_where_keys_have_one_length(
    impl: str, size: tuple[int, int]
) -> None:
    """-|q - k|² = 2 q·k - |q|² - |k|², and the softmax drops what all keys share."""
    q, k, v, prior = draw((1, 2, 3, *size), (1, 2, 3, *size), (1, 2, 4, *size), (2, 3, 5))
    k = k / k.norm(dim=2, keepdim=True)
    actual = local_relation(q, k, v, prior, impl=impl)
    assert_close(actual, local_relation(2 * q, k, v, prior, appearance="product", impl=impl))


@given(size=sides)
@each_aggregation
def test_equal_weights_give_the_mean_of_what_is_on_the_map(impl: str, size: tuple[int, int]) -> None:
    (v,) = draw((2, 2, 3, *size))
    actual = vector_attention(v.new_zeros(2, 2, 9, *size), v, window_size=3, impl=impl)
    pooled = torch.nn.functional.avg_pool2d(v.flatten(0, 1), 3, 1, 1, count_include_pad=False)
    assert_close(actual, pooled.view_as(v))


def test_windows_are_those_of_unfold() -> None:
    (maps,) = draw((2, 3, 5, 4))
    unfolded = torch.nn.functional.unfold(maps, (3, 5), padding=(1, 2)).view(2, 3, 15, 5, 4)
    assert_equal(window_values(maps, (3, 5)), unfolded)


@pytest.mark.parametrize("impl", ["auto", "shifts"])
def test_second_derivatives_of_window_sums(impl: str) -> None:
    w, v = (x.requires_grad_() for x in draw((1, 1, 9, 2, 3), (1, 1, 2, 2, 3)))
    torch.autograd.gradgradcheck(lambda w, v: vector_attention(w, v, window_size=3, impl=impl), (w, v))
