"""Numbers of all sizes, NaN and infinity: an error, and a value that is not finite, stay in their windows."""

import itertools
import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from lambdanets.functional import causal_lambda_layer, content_summary, lambda_layer, position_output
from lambdanets.functional.content import reference as content_reference
from lambdanets.functional.position import IMPLEMENTATIONS, fourier
from support.compare import assert_close
from support.parameters import CONTENT_FORMS, POSITION_FORMS, each_normalization
from support.strategies import Case

# The Fourier form would mix rows of these, and the dense form whole blocks.
CASES = [
    Case(size=(300,), scope=(9,), b=1, k=4, v=3),
    Case(size=(40, 5), scope=(3, 5), b=1, k=4, v=3),
    Case(size=(6, 40), scope=(5, 7), b=2, k=4, v=3, u=2),
    Case(size=(3, 4, 30), scope=(3, 1, 5), b=1, k=4, v=2),
]
NAMES = ("queries", "values", "table")

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_form = pytest.mark.parametrize("impl", [one.name for one in POSITION_FORMS])


@cache
def windows(case: Case) -> Tensor:
    """True where the second position is in the window of the first, by loops; "n m"."""
    places = list(itertools.product(*map(range, case.size)))
    reach = [side // 2 for side in case.scope]
    return torch.tensor(
        [[all(abs(a - b) <= r for a, b, r in zip(n, m, reach, strict=True)) for m in places] for n in places]
    )


def ramp(case: Case) -> Tensor:
    """From 1e-30 to 1e30 along the last axis: neighbours are near in size."""
    exponents = torch.linspace(-30, 30, case.size[-1])
    return (10**exponents).expand(case.size)


def scattered(case: Case) -> Tensor:
    """From 1e-30 to 1e30 anywhere."""
    return 10 ** (60 * torch.rand(case.size, generator=torch.Generator().manual_seed(3)) - 30)


def spike(size: float) -> Callable[[Case], Tensor]:
    def magnitudes(case: Case) -> Tensor:
        one = torch.ones(case.size)
        one[tuple(side // 3 for side in case.size)] = size
        return one

    return magnitudes


SIZES = {"ramp": ramp, "scattered": scattered} | {f"{size:.0e}": spike(size) for size in (10, 30, 1e5, 1e30)}
each_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


@each_size
@each_case
@each_form
def test_errors_are_relative_to_the_largest_value_of_the_window(
    impl: str, case: Case, size: Callable[[Case], Tensor]
) -> None:
    tensors = case.draw(*NAMES, dtype=torch.float32)
    tensors["values"] *= size(case)
    exact = {name: one.double() for name, one in tensors.items()}
    error = (position_output(**tensors, impl=impl) - position_output(**exact, impl="reference")).abs()
    largest = exact["values"].abs().amax((1, 2)).flatten(1)
    by_window = torch.where(windows(case), largest[:, None], 0).amax(-1)  # b n
    scale = exact["queries"].abs().sum(2).flatten(2) * by_window[:, None]  # b h n
    assert (error.flatten(3) / scale[:, :, None]).max() < 4e-6


@each_size
@each_case
@each_form
def test_errors_of_gradients_too(impl: str, case: Case, size: Callable[[Case], Tensor]) -> None:
    """dv is a sum over the window of what belongs to queries and output: here the gradient has all sizes."""
    tensors = case.draw(*NAMES, dtype=torch.float32)
    grad_out = torch.randn_like(position_output(**tensors)) * size(case)
    grads = {}
    for dtype, form in ((torch.float32, impl), (torch.float64, "reference")):
        values = tensors["values"].to(dtype).requires_grad_()
        output = position_output(tensors["queries"].to(dtype), values, tensors["table"].to(dtype), impl=form)
        (grads[dtype],) = torch.autograd.grad(output, values, grad_out.to(dtype))
    error = (grads[torch.float32] - grads[torch.float64]).abs().flatten(3)
    largest = (grad_out.abs().amax((1, 2)) * tensors["queries"].abs().sum((1, 2))).double().flatten(1)
    by_window = torch.where(windows(case), largest[:, None], 0).amax(-1)
    assert (error / by_window[:, None, None]).max() < 3e-6


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@each_case
@each_form
def test_what_is_not_finite_stays_in_the_windows_that_hold_it(impl: str, case: Case, number: float) -> None:
    tensors = case.draw(*NAMES)
    without = {**tensors, "values": tensors["values"].clone()}
    place = (0, 0, slice(None), *(2 * side // 3 for side in case.size))
    tensors["values"][place], without["values"][place] = number, 0
    output = position_output(**tensors, impl=impl).flatten(3)
    holds = windows(case)[:, torch.ones(case.size).nonzero().eq(torch.tensor(place[3:])).all(1)].squeeze(1)
    assert 0 < holds.sum() < case.n
    assert not output[0][..., holds].isfinite().any()
    expected = position_output(**without, impl="reference").flatten(3)
    assert_close(output[0][..., ~holds], expected[0][..., ~holds])
    assert_close(output[1:], expected[1:])


@pytest.mark.parametrize("name", ["grad_out", "queries", "values"])
@each_case
@each_form
def test_gradients_that_are_not_finite_stay_in_the_windows_that_hold_them(
    impl: str, case: Case, name: str
) -> None:
    tensors = case.draw(*NAMES)
    tensors["grad_out"] = torch.randn_like(position_output(**tensors))
    tensors[name][(0, 0, 0, *(side // 3 for side in case.size))] = math.nan
    grad_out = tensors.pop("grad_out")
    leaves = {one: tensor.requires_grad_() for one, tensor in tensors.items()}
    grads = torch.autograd.grad(position_output(**leaves, impl=impl), [*leaves.values()], grad_out)
    place = torch.ones(case.size).nonzero().eq(torch.tensor([side // 3 for side in case.size])).all(1)
    holds = windows(case)[:, place].squeeze(1)
    finite_queries, finite_values = (one.isfinite().flatten(3).all(1).all(1)[0] for one in grads[:2])
    # dq has the window's values and its own gradient; dv the window's queries and gradients.
    assert finite_queries.equal({"values": ~holds, "grad_out": ~place, "queries": place | ~place}[name])
    assert finite_values.equal({"values": place | ~place, "grad_out": ~holds, "queries": ~holds}[name])


@each_case
def test_an_image_that_does_not_suit_leaves_others_alone(case: Case) -> None:
    suited = Case(**{**vars(case), "b": 4}).draw(*NAMES)
    mixed = {**suited, "values": suited["values"].clone()}
    mixed["values"][2, 0, 0, ..., 0] = 1e9
    for impl in ("fourier", "auto"):
        results = []
        for tensors in (suited, mixed):
            leaves = {name: one.clone().requires_grad_() for name, one in tensors.items()}
            output = position_output(**leaves, impl=impl)
            output.sum().backward()
            results.append((output.detach(), leaves["queries"].grad, leaves["values"].grad))
        for before, after in zip(*results, strict=True):
            assert_close(after[[0, 1, 3]], before[[0, 1, 3]])


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=str)
def test_the_fourier_form_runs_where_numbers_suit_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal numbers do, and constant maps; a spike and rows that are half zero do not."""
    ran: list[int] = []
    chosen = fourier.IMPLEMENTATION
    index = IMPLEMENTATIONS.index(chosen)

    def counted(queries: Tensor, *rest: object) -> Tensor:
        ran.append(len(queries))
        return chosen.run(queries, *rest)

    forms = list(IMPLEMENTATIONS)
    forms[index] = type(chosen)(
        "fourier", chosen.why_not, chosen.cost, counted, chosen.gradients, chosen.suits, alias="mixed"
    )
    monkeypatch.setattr("lambdanets.functional.position.IMPLEMENTATIONS", tuple(forms))
    queries, values, table = case.draw(*NAMES).values()
    even = [values, torch.ones_like(values), torch.zeros_like(values)]
    for one in even:
        position_output(queries, one, table, impl="fourier")
    assert ran == [case.b] * len(even)
    halved = torch.ones_like(values)
    halved[..., : case.size[-1] // 2] = 0
    for one in (values * spike(1e5)(case), halved):
        ran.clear()
        position_output(queries, one, table, impl="fourier")
        assert sum(ran) == 0


@each_normalization
@pytest.mark.parametrize("impl", [one.name for one in CONTENT_FORMS])
@pytest.mark.parametrize("size", [ramp, scattered])
def test_content_of_values_of_all_sizes(
    impl: str, size: Callable[[Case], Tensor], key_normalization: str
) -> None:
    case = Case(size=(7, 50), k=4, v=3, u=2)
    tensors = case.draw("keys", "values", dtype=torch.float32)
    tensors["values"] *= size(case)
    keys, values = (one.double() for one in tensors.values())
    actual = content_summary(**tensors, key_normalization=key_normalization, impl=impl)
    error = (actual - content_reference.summary(keys, values, key_normalization)).abs()
    signless = content_reference.lambdas_by_part(
        keys, torch.eye(case.n).double().expand(2, 2, -1, -1).unflatten(3, case.size), key_normalization
    )
    scale = torch.einsum("bukm,buvm->bkv", signless.abs(), values.abs().flatten(3))
    assert (error / scale).max() < 3e-7


@pytest.mark.parametrize("name", ["keys", "values", "embeddings"])
@pytest.mark.parametrize("by_image", [False, True], ids=["mask", "mask-by-image"])
@each_normalization
def test_what_a_query_does_not_see_may_be_anything(key_normalization: str, by_image: bool, name: str) -> None:
    case = Case(size=(6,), context=(7,), k=4, v=3, u=2)
    tensors = case.draw("queries", "keys", "values", "embeddings")
    mask = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[:, :3, 2], mask[:, 3:, 2] = False, True
    mask = mask if by_image else mask[0]
    before = lambda_layer(**tensors, mask=mask, key_normalization=key_normalization)
    for number in (math.nan, math.inf):
        place = (slice(3), 2) if name == "embeddings" else (..., 2)
        changed = {**tensors, name: tensors[name].clone()}
        changed[name][place] = number
        leaves = {one: tensor.requires_grad_() for one, tensor in changed.items()}
        after = lambda_layer(**leaves, mask=mask, key_normalization=key_normalization)
        assert_close(after[..., :3], before[..., :3])
        assert name == "embeddings" or not after[..., 3:].isfinite().any()
        (grad,) = torch.autograd.grad(after[..., :3].sum(), leaves["queries"])
        assert grad[..., :3].isfinite().all()


@pytest.mark.parametrize("name", ["keys", "values"])
@each_normalization
def test_the_future_may_be_anything(key_normalization: str, name: str) -> None:
    """In the chunk of a query, and in later ones."""
    case = Case(size=(70,), scope=(9,), k=4, v=3, u=2)
    tensors = case.draw("queries", "keys", "values", "table")
    before = causal_lambda_layer(**tensors, key_normalization=key_normalization)
    for now in (20, 45):
        changed = {**tensors, name: tensors[name].clone()}
        changed[name][..., now] = math.nan
        after = causal_lambda_layer(**changed, key_normalization=key_normalization)
        assert_close(after[..., :now], before[..., :now])
        assert not after[..., now:].isfinite().any()


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=str)
def test_a_transform_errs_by_the_largest_number_of_its_row(case: Case) -> None:
    """The figure that the limit of its use rests on: 6e-7 of it, and not much less."""
    tensors = case.draw(*NAMES, dtype=torch.float32)
    tensors["values"] *= spike(1e5)(case)
    exact = {name: one.double() for name, one in tensors.items()}
    error = fourier.run(**tensors, workspace=1 << 24) - position_output(**exact, impl="reference")
    lengths = tensors["queries"].double().norm(dim=2).unsqueeze(2)
    relative = (error.abs() / lengths / exact["values"].abs().max()).max().item()
    assert 1e-8 < relative < 6e-7
