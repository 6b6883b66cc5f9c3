"""Any order of the axes and any folding of a sequence: the same output and gradients."""

import math

import pytest
import torch

from lambdanets.functional import position_output
from lambdanets.functional._dispatch import Problem
from lambdanets.functional.position import dense, fourier
from lambdanets.functional.position._dft import dft_matrices, frequencies
from lambdanets.functional.position._maps import Arrangement, arrangements, fold
from support.compare import assert_close
from support.gradients import assert_all_close, outputs_and_gradients
from support.strategies import Case

NAMES = ("queries", "values", "table")
CASES = [
    Case(size=(5, 3), scope=(3, 5), u=2),
    Case(size=(4, 7), scope=(7, 13), b=1),
    Case(size=(2, 5, 3), scope=(3, 5, 1), u=2),
    Case(size=(3, 1, 4), scope=(5, 1, 3)),
    Case(size=(70,), scope=(9,), u=2),
    Case(size=(37,), scope=(73,)),
    Case(size=(530,), scope=(301,), b=1, k=2, v=2),
]
EACH = [
    pytest.param(case, layout, id=f"{case}-{layout.size}-{layout.order}")
    for case in CASES
    for layout in arrangements(case.size, case.scope)
]


@pytest.mark.parametrize(("case", "layout"), EACH)
def test_every_arrangement_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, case: Case, layout: Arrangement
) -> None:
    tensors = case.draw(*NAMES)
    expected = outputs_and_gradients(position_output, tensors, impl="reference")
    monkeypatch.setattr(fourier, "_layout_of", lambda _: layout)
    assert_all_close(outputs_and_gradients(position_output, tensors, impl="fourier"), expected)


@pytest.mark.parametrize("case", [case for case in CASES if len(case.size) == 1], ids=str)
def test_sequences_in_rows_give_the_same(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    tensors = case.draw(*NAMES)
    expected = outputs_and_gradients(position_output, tensors, impl="reference")
    monkeypatch.setattr(dense, "_FOLDED_WIDTH", 16)
    assert_all_close(outputs_and_gradients(position_output, tensors, impl="dense"), expected)


def test_every_offset_of_a_folded_table_is_that_of_its_elements() -> None:
    length, side, width = 50, 23, 8
    layout, table = fold(length, side, width), torch.arange(1.0, side + 1).view(1, 1, side)
    folded = layout.table(table)[0, 0, 0]
    rows, columns = folded.shape
    for row in range(rows):
        for column in range(columns):
            offset = (row - rows // 2) * width + column - columns // 2
            expected = offset + side // 2 + 1 if abs(offset) <= side // 2 else 0
            assert folded[row, column] == expected


@pytest.mark.parametrize(("size", "count"), [((5, 3), 2), ((2, 3, 4), 6), ((30,), 1), ((1000,), 6)])
def test_how_many_arrangements_there_are(size: tuple[int, ...], count: int) -> None:
    layouts = list(arrangements(size, (3,) * len(size)))
    assert len(set(layouts)) == len(layouts) == count
    for layout in layouts:
        assert math.prod(layout.size) - math.prod(size) in range(layout.size[2])


@pytest.mark.parametrize(("width", "side"), [(1, 1), (2, 3), (5, 9), (6, 3), (7, 13), (8, 5)])
def test_a_transform_there_and_back_are_a_correlation(width: int, side: int) -> None:
    basis = dft_matrices(width, side, torch.float64, torch.device("cpu"))
    values, kernel = torch.randn(width, dtype=torch.float64), torch.randn(side, dtype=torch.float64)
    real, imaginary = (basis.forward @ values).view(-1, 2).T
    first, second = (basis.offsets @ kernel).view(-1, 2).T
    even, odd = real * first - imaginary * second, real * second + imaginary * first
    even[0], odd[0] = real[0] * first[0], imaginary[0] * second[0]
    right, left = basis.even @ even + basis.odd @ odd, basis.even @ even - basis.odd @ odd
    found = torch.cat([left.flip(0), right])[:width]
    padded = torch.nn.functional.pad(values, (side // 2, side // 2))
    assert_close(found, padded.unfold(0, side, 1) @ kernel)
    assert len(even) == frequencies(width, side)


def problem(size: tuple[int, ...], scope: tuple[int, ...], batch: int) -> Problem:
    return Problem("position_output", batch, 4, 16, 1, 16, size, scope, torch.float32, "cpu", False, 0)


def test_the_transform_goes_along_the_axis_that_is_cheapest() -> None:
    """A direct sum along the short axis, whichever it is."""
    for size, scope in (((3, 40), (5, 41)), ((40, 3), (41, 5))):
        assert fourier._layout_of(problem(size, scope, batch=8)).size == (1, 3, 40)


def test_calls_count_as_well_as_operations() -> None:
    """Two hundred short rows are fewer operations and many more calls."""
    assert fourier._layout_of(problem((4, 200), (3, 3), batch=1)).size == (1, 4, 200)
    assert fourier._layout_of(problem((4, 200), (3, 3), batch=1000)).size == (1, 200, 4)
