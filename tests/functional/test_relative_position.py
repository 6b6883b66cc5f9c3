"""Offsets, tables and dense embeddings: written out, gathered back, cropped and resized."""

from functools import partial
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from lambdanets.functional.relative_position import (
    crop_table,
    dense_embeddings,
    relative_offsets,
    resize_table,
    scope_mask,
    table_from_embeddings,
)
from support.compare import assert_close, assert_equal
from support.oracles import assert_specified, loop_embeddings
from support.strategies import Case, map_cases

SIZES = [((1,), (1,)), ((4,), (2,)), ((3, 2), (2, 4)), ((2, 1, 2), (1, 3, 2))]
each_pair_of_sizes = pytest.mark.parametrize(("size", "context"), SIZES, ids=str)


@each_pair_of_sizes
def test_offsets_are_context_minus_query_in_row_major_order(
    size: tuple[int, ...], context: tuple[int, ...]
) -> None:
    expected = [
        [
            [to - at for at, to in zip(query, element, strict=True)]
            for element in product(*map(range, context))
        ]
        for query in product(*map(range, size))
    ]
    assert relative_offsets(size, context).tolist() == expected
    assert_equal(relative_offsets(size), relative_offsets(size, size))


@each_pair_of_sizes
def test_scope_mask_is_true_where_the_embedding_is_not_zero(
    size: tuple[int, ...], context: tuple[int, ...]
) -> None:
    scope = (3, 1, 5)[: len(size)]
    written = loop_embeddings(torch.ones(1, 1, *scope), size, context)
    assert_equal(scope_mask(size, scope, context), written[:, :, 0, 0].bool())


@given(case=map_cases())
def test_dense_embeddings_write_the_table_out(case: Case) -> None:
    table = case.draw("table")["table"]
    assert_equal(dense_embeddings(table, case.size), loop_embeddings(table, case.size))


@each_pair_of_sizes
def test_dense_embeddings_between_two_maps(size: tuple[int, ...], context: tuple[int, ...]) -> None:
    table = torch.randn(2, 3, *(3, 5, 1)[: len(size)], dtype=torch.float64)
    assert_equal(dense_embeddings(table, size, context), loop_embeddings(table, size, context))


@given(case=map_cases())
def test_embeddings_gather_back_into_their_table(case: Case) -> None:
    everywhere = tuple(2 * side - 1 for side in case.size)
    table = torch.randn(case.u, case.k, *everywhere, dtype=torch.float64)
    assert_specified(table_from_embeddings(dense_embeddings(table, case.size), case.size), table)


@each_pair_of_sizes
def test_tables_and_embeddings_between_two_maps_round_trip(
    size: tuple[int, ...], context: tuple[int, ...]
) -> None:
    scope = tuple(2 * max(sides) - 1 for sides in zip(size, context, strict=True))
    written = dense_embeddings(torch.randn(2, 3, *scope, dtype=torch.float64), size, context)
    table = table_from_embeddings(written, size, context)
    assert tuple(table.shape) == (2, 3, *scope)
    assert_close(dense_embeddings(table, size, context), written)


@each_pair_of_sizes
def test_the_table_of_other_embeddings_is_their_mean_over_each_offset(
    size: tuple[int, ...], context: tuple[int, ...]
) -> None:
    """The nearest table in least squares; an offset that joins no pair is zero."""
    offsets = relative_offsets(size, context)
    embeddings = torch.randn(*offsets.shape[:2], 2, 3, dtype=torch.float64)
    table = table_from_embeddings(embeddings, size, context)
    for place in product(*map(range, table.shape[2:])):
        offset = torch.tensor([index - side // 2 for index, side in zip(place, table.shape[2:], strict=True)])
        pairs = embeddings[(offsets == offset).all(dim=-1)]
        expected = pairs.mean(dim=0) if len(pairs) else torch.zeros(2, 3, dtype=torch.float64)
        assert_specified(table[(..., *place)], expected)


@given(case=map_cases())
def test_crop_to_what_a_map_reaches_changes_no_embedding(case: Case) -> None:
    table = case.draw("table")["table"]
    cropped = crop_table(table, tuple(2 * side - 1 for side in case.size))
    assert all(side <= 2 * length - 1 for side, length in zip(cropped.shape[2:], case.size, strict=True))
    assert_equal(dense_embeddings(cropped, case.size), dense_embeddings(table, case.size))


def test_crop_keeps_the_offsets_nearest_to_zero_and_never_grows() -> None:
    table = torch.arange(-4.0, 5.0).expand(1, 1, 3, 9)
    assert_equal(crop_table(table, (5, 3)), torch.arange(-1.0, 2.0).expand(1, 1, 3, 3))


odd = st.integers(0, 12).map(lambda half: 2 * half + 1)


@given(old=st.tuples(odd, odd), new=st.tuples(odd, odd))
def test_resize_keeps_offset_zero(old: tuple[int, int], new: tuple[int, int]) -> None:
    table = torch.randn(2, 3, *old, dtype=torch.float64)
    resized = resize_table(table, new)
    assert tuple(resized.shape) == (2, 3, *new)
    centre, new_centre = ([side // 2 for side in sides] for sides in (old, new))
    assert_close(resized[(..., *new_centre)], table[(..., *centre)])


@given(old=st.tuples(odd, odd), new=st.tuples(odd, odd))
def test_resize_is_bilinear_with_aligned_corners(old: tuple[int, int], new: tuple[int, int]) -> None:
    """As torch interpolates, but for a side of one, which torch reads at the corner and we at the centre."""
    old, new = (tuple(max(side, 3) for side in sides) for sides in (old, new))
    table = torch.randn(2, 3, *old, dtype=torch.float64)
    assert_specified(resize_table(table, new), interpolate(table, new, mode="bilinear", align_corners=True))


@pytest.mark.parametrize(("old", "new"), [(3, 9), (9, 3), (5, 23), (23, 7), (1, 5)])
def test_resize_moves_linear_tables_onto_linear_tables(old: int, new: int) -> None:
    """Up and down: what is linear in the offset stays linear, and the ends stay the ends."""

    def ramp(side: int) -> Tensor:
        return torch.linspace(-1, 1, side, dtype=torch.float64) if old > 1 else torch.zeros(side).double()

    assert_close(resize_table((2 + ramp(old)).view(1, 1, -1), (new,)), (2 + ramp(new)).view(1, 1, -1))


def test_resize_to_the_same_sides_is_the_table_itself() -> None:
    table = torch.randn(2, 3, 5, 7)
    assert_equal(resize_table(table, (5, 7)), table)


@pytest.mark.parametrize("function", [crop_table, resize_table])
def test_precision_and_strides_survive(function) -> None:  # type: ignore[no-untyped-def]
    table = torch.randn(3, 2, 9, 7, dtype=torch.bfloat16)
    strided = function(table.transpose(0, 1), (5, 3))
    assert strided.dtype == torch.bfloat16
    assert_close(strided, function(table.transpose(0, 1).double(), (5, 3)), torch.bfloat16)


def test_offsets_and_masks_are_made_where_they_are_asked_for() -> None:
    """On torch's default device otherwise, as `torch.arange` is."""
    for function in (relative_offsets, partial(scope_mask, scope=(3,))):
        plain = function((4,))
        assert plain.device.type == "cpu"
        assert function((4,), device=torch.device("meta")).is_meta
        with torch.device("meta"):
            assert function((4,)).is_meta
            assert_equal(function((4,), device=torch.device("cpu")), plain)
