"""The kernels of `position_output`: on a GPU where there is one, else in Triton's interpreter."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lambdanets.functional import _triton, position_output
from lambdanets.functional._dispatch import Problem
from lambdanets.functional.position import _tiles, reference
from lambdanets.functional.position._tiles import KERNELS, Kernel, Tiles
from lambdanets.functional.position.triton import IMPLEMENTATION, cost, why_not
from support.compare import assert_close, assert_equal
from support.gradients import assert_all_close, cotangent, outputs_and_gradients
from support.parameters import LAYOUTS, PRECISIONS
from support.strategies import Case

pytest.importorskip("triton", reason="triton is not installed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("queries", "values", "table")

CASES = [
    Case(size=(1,), scope=(1,), b=1, k=1, v=1, h=1),
    Case(size=(9,), scope=(5,), k=8, v=8, h=2, u=2),
    Case(size=(4, 7), scope=(3, 13), k=16, v=8, h=4),
    Case(size=(2, 3, 3), scope=(3, 1, 5), b=1, k=4, v=3, u=2, h=1),
]
MORE_CASES = [
    Case(size=(3, 19), scope=(3, 5), b=1, k=5, v=20, h=3),
    Case(size=(2, 3, 5), scope=(3, 1, 5), b=3, k=4, v=3, u=2, h=1),
    Case(size=(7, 7), scope=(13, 13), k=16, v=32, h=4),
    Case(size=(5, 11), scope=(9, 21), k=32, v=8, h=16, b=1),
    Case(size=(9, 13), scope=(7, 7), k=16, v=16, h=4, b=1),
    Case(size=(2, 28), scope=(3, 23), k=8, v=8, h=8, b=1),
    Case(size=(3, 37), scope=(5, 73), k=16, v=8, h=4, b=1),
    Case(size=(41,), scope=(7,), k=16, v=64, h=5, u=4),
    Case(size=(3, 2, 9), scope=(3, 3, 9), k=8, v=8, h=2, b=1),
]
SMALL = CASES[2]
# Where bits are compared: small in the interpreter, which takes seconds for what a GPU does at once.
BITS = MORE_CASES[4] if DEVICE == "cuda" else Case(size=(2, 3), scope=(3, 5), k=4, v=4, h=2)


def with_shared(queries: Tensor, values: Tensor, table: Tensor, shared: Tensor) -> Tensor:
    return position_output(queries, values, table, shared=shared, impl="triton")


def exact(queries: Tensor, values: Tensor, table: Tensor, shared: Tensor) -> Tensor:
    inputs = (queries, values, table)
    return reference.run(*inputs) + torch.einsum("bhk...,bkv->bhv...", queries, shared)


def drawn(case: Case, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: one.to(DEVICE) for name, one in case.draw(*NAMES, "shared", dtype=dtype).items()}


def assert_right(case: Case, dtype: torch.dtype) -> None:
    tensors = drawn(case, dtype)
    actual = outputs_and_gradients(with_shared, tensors)
    wanted = outputs_and_gradients(exact, {name: one.double() for name, one in tensors.items()})
    assert_all_close(actual, wanted, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_all_gradients(case: Case, dtype: torch.dtype) -> None:
    assert_right(case, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", PRECISIONS.values() if DEVICE == "cuda" else [torch.float64], ids=str)
@pytest.mark.parametrize("case", MORE_CASES, ids=str)
def test_outputs_and_all_gradients_of_larger_calls(case: Case, dtype: torch.dtype) -> None:
    assert_right(case, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_other_precisions(dtype: torch.dtype) -> None:
    assert_right(SMALL, dtype)


@pytest.mark.slow
def test_strides_change_nothing() -> None:
    tensors = drawn(BITS)
    wanted = outputs_and_gradients(with_shared, tensors)
    for layout in LAYOUTS.values():
        placed = {name: one if name == "shared" else layout(one) for name, one in tensors.items()}
        for name, one in outputs_and_gradients(with_shared, placed).items():
            assert_equal(one, wanted[name], name)


TILES = {
    "by row": Tiles(lines=2, columns=4, context=16, channels=16),
    "by image": Tiles(lines=2, columns=8, context=16, channels=16, by_image=True),
    "one line": Tiles(lines=1, columns=16, context=32, channels=32),
    "halo wider than a tile": Tiles(lines=4, columns=4, context=4, channels=16, by_image=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("tiles", TILES.values(), ids=TILES)
def test_every_tile_gives_the_same(tiles: Tiles) -> None:
    """Also where a tile is wider than the map, or the context of a tile wider than the next."""
    q, v, table, shared = drawn(Case(size=(3, 5), scope=(5, 7), b=1, k=4, v=9, h=3), torch.float64).values()
    leaves = [one.requires_grad_() for one in (q, v, table)]
    output = exact(*leaves, shared)
    outer = cotangent(output)
    wanted = torch.autograd.grad(output, leaves, outer)
    assert_close(IMPLEMENTATION.run(q, v, table, 1 << 20, shared, tiles), output)
    found = IMPLEMENTATION.gradients(outer, q, v, table, [True] * 3, 1 << 20, shared, tiles)
    for name, one, other in zip(NAMES, found, wanted, strict=True):
        assert_close(one, other, what=name)


def test_no_shared_lambda() -> None:
    tensors = {name: drawn(SMALL)[name] for name in NAMES}
    actual = outputs_and_gradients(position_output, tensors, impl="triton")
    wanted = outputs_and_gradients(reference.run, {name: one.double() for name, one in tensors.items()})
    assert_all_close(actual, wanted, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", NAMES)
def test_a_gradient_alone(wanted: str) -> None:
    tensors = drawn(BITS)
    leaves = {name: one.requires_grad_(name == wanted) for name, one in drawn(BITS).items()}
    output = with_shared(**leaves)
    (alone,) = torch.autograd.grad(output, leaves[wanted], cotangent(output))
    assert_equal(alone, outputs_and_gradients(with_shared, tensors)[wanted])


def test_repeats_are_bit_identical() -> None:
    tensors = drawn(BITS)
    first = outputs_and_gradients(with_shared, tensors)
    for _ in range(100 if DEVICE == "cuda" else 2):
        for name, one in outputs_and_gradients(with_shared, tensors).items():
            assert_equal(one, first[name], name)


@pytest.mark.slow
def test_an_image_does_not_see_the_others() -> None:
    """Its output and gradients are the same bits in any batch, and a NaN stays in its image."""
    tensors = drawn(replace(BITS, b=4))
    whole = outputs_and_gradients(with_shared, tensors)
    spoiled = {name: one.clone() for name, one in tensors.items()}
    spoiled["values"][1], spoiled["queries"][2] = torch.nan, torch.nan
    found = outputs_and_gradients(with_shared, spoiled)
    for name in ("output", "queries", "values"):
        for image in (0, 3):
            assert_equal(found[name][image], whole[name][image], name)
    alone = {name: one if name == "table" else one[:1] for name, one in tensors.items()}
    assert_equal(with_shared(**alone)[0], whole["output"][0])


@pytest.mark.slow
def test_the_sum_of_the_table_may_take_many_parts() -> None:
    tensors = drawn(BITS, torch.float64)
    inputs = {name: tensors[name] for name in NAMES}
    whole = outputs_and_gradients(position_output, inputs, impl="triton")
    one_part = outputs_and_gradients(position_output, inputs, impl="triton", workspace=1)
    assert_close(one_part["table"], whole["table"])


@pytest.mark.parametrize("case", [Case(size=(4, 3), scope=(3, 3), b=0), Case(size=(3,), scope=(1,), b=0)])
def test_an_empty_batch(case: Case) -> None:
    found = outputs_and_gradients(with_shared, drawn(case))
    assert found["output"].shape == (0, case.h, case.v, *case.size)
    assert not found["table"].any()


# b h k u v of a layer on a GPU.
LAYER = Problem(
    "position_output", 128, 4, 16, 1, 32, (28, 28), (23, 23), torch.bfloat16, "cuda", False, 64 << 20
)


def problem(size: tuple[int, ...] = (28, 28), **changes: Any) -> Problem:
    return LAYER._replace(size=size, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"heads": 65}, "needs heads of 64 or less, got 65"),
        ({"query_depth": 128}, "needs query_depth of 64 or less, got 128"),
        ({"value_depth": 257}, "needs value_depth of 256 or less, got 257"),
        ({"dtype": torch.complex64}, "needs float16, bfloat16, float32 or float64, got torch.complex64"),
    ],
)
def test_says_what_it_cannot_run(changes: dict[str, object], reason: str) -> None:
    assert why_not(problem()) is None
    assert why_not(problem(**changes)) == reason


def test_needs_a_gpu_or_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    reason = "needs a CUDA device, or TRITON_INTERPRET=1 in the environment"
    assert why_not(problem(device="cpu")) == reason
    monkeypatch.setattr("lambdanets.functional._triton.find_spec", lambda _: None)
    assert why_not(problem()) == "needs triton, which is not installed"


def test_is_never_chosen_to_be_interpreted() -> None:
    assert cost(problem((1, 1), batch=1, device="cpu")) > 1
    assert 0 < cost(problem()) < cost(problem(backward=True)) < cost(problem((56, 56), backward=True))
    assert IMPLEMENTATION.adds_shared


@pytest.mark.parametrize(
    "size", [(7, 7), (14, 14), (28, 28), (56, 56), (13, 37), (300,), (8, 28, 28)], ids=str
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_rule_makes_tiles_that_a_gpu_can_hold(kernel: Kernel, size: tuple[int, ...]) -> None:
    for batch in (1, 128):
        for heads, depth in ((1, 256), (4, 16), (5, 24), (16, 8)):
            scope = (23,) * len(size)
            asked = problem(size, batch=batch, heads=heads, value_depth=depth, scope=scope)
            tiles = _tiles.rule(kernel, asked)
            assert all(side & (side - 1) == 0 for side in tiles[:4])
            assert tiles.context >= 16
            assert tiles.channels >= 16
            assert tiles.lines * tiles.columns * heads <= 2 * _tiles._ROWS
            # The compiler wants 16 terms in each sum of a product; the interpreter does not mind.
            summed = {"values_gradient": tiles.columns, "table_gradient": tiles.lines}.get(kernel, 16)
            assert summed * _triton.power_of_two(heads) >= 16
            first, count = _tiles.context_tiles(asked, tiles.own(kernel), tiles.other(kernel))
            # The tiles reach from the first column's first context to the last column's last.
            reach = min(11, size[-1] - 1)
            assert first <= 0
            if tiles.own(kernel) < size[-1]:
                assert (first, first + count * tiles.other(kernel)) <= (-reach, size[-1] + 999)
                assert first + count * tiles.other(kernel) >= tiles.own(kernel) + reach
            else:
                assert count * tiles.other(kernel) >= size[-1]


def test_batch_and_height_do_not_change_the_order_of_sums() -> None:
    """Only the columns of a tile decide in which order a result is summed."""
    for kernel in KERNELS[:3]:
        found = {
            _tiles.tiles_for(kernel, problem((height, 28), batch=batch), "a GPU")[1:3]
            for batch in (1, 2, 8, 128, 1024)
            for height in (7, 28)
        }
        assert len(found) == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_few_programs_are_made_more(kernel: Kernel) -> None:
    for batch in (1, 128):
        asked = problem((14, 14), batch=batch, value_depth=64)
        tiles = _tiles.tiles_for(kernel, asked, "a GPU")
        enough = math.prod(_tiles.grid(kernel, asked, tiles)) >= _tiles.FULL
        smallest = tiles.lines == 1 and (tiles.channels == 16 or kernel == "queries_gradient")
        assert enough or smallest or kernel == "table_gradient"


def test_tiles_that_were_measured_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = Tiles(lines=4, columns=8, context=32, channels=32, warps=4, stages=3)
    monkeypatch.setattr(_tiles, "TUNED", {"a GPU": {_tiles.bucket("output", problem()): measured}})
    assert _tiles.tiles_for("output", problem(), "a GPU") == measured
    assert _tiles.tiles_for("output", problem(batch=64), "a GPU") == measured
    assert _tiles.tiles_for("output", problem(), "another GPU") == _tiles.rule("output", problem())
    assert _tiles.tiles_for("output", problem((56, 56)), "a GPU") == _tiles.rule("output", problem((56, 56)))
    few = _tiles.tiles_for("output", problem(batch=1), "a GPU")
    assert few[1:3] == measured[1:3]
    assert few.lines < measured.lines
