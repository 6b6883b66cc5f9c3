"""The choice of an implementation: reasons, costs and names."""

import math
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lambdanets.errors import ArgumentError
from lambdanets.functional import content_summary, position_output
from lambdanets.functional._dispatch import RATES, Implementation, Problem, choose, choose_again, rates
from support.strategies import Case

OPERATORS = {
    "position_output": (
        "lambdanets.functional.position",
        position_output,
        ("queries", "values", "table"),
    ),
    "content_summary": ("lambdanets.functional.content", content_summary, ("keys", "values")),
}
CASE = Case(size=(4, 3), scope=(3, 5), u=2, h=5, k=4)
PROBLEM = Problem("some_output", 2, 4, 16, 1, 8, (7, 5), (3, 23), torch.float32, "cpu", False, 1 << 24)

each_operator = pytest.mark.parametrize("operator", OPERATORS)
each_implementation = pytest.mark.parametrize(
    ("operator", "implementation"),
    [
        pytest.param(name, one, id=f"{name}-{one.name}")
        for name, (module, *_) in OPERATORS.items()
        for one in import_module(module).IMPLEMENTATIONS
    ],
)


def fake(name: str, seconds: float, reason: str | None = None) -> Implementation:
    return Implementation(name, lambda _: reason, lambda _: seconds, lambda *_: torch.zeros(()))


FAKES = (
    fake("slow", 3.0),
    fake("quick", 1.0),
    fake("quickest", 0.1, "needs a CUDA tensor"),
    fake("fair", 2.0),
)


def test_auto_takes_the_cheapest_that_can() -> None:
    assert choose(FAKES, PROBLEM).name == "quick"
    assert choose(FAKES[::-1], PROBLEM).name == "quick"


@pytest.mark.parametrize("name", ["slow", "quick", "fair"])
def test_a_named_one_runs_whatever_it_costs(name: str) -> None:
    assert choose(FAKES, PROBLEM, name).name == name


@pytest.mark.parametrize("name", ["auto", "fair"])
def test_the_same_is_chosen_again(name: str) -> None:
    counted: list[str] = []
    counting = tuple(replace(one, why_not=lambda _: counted.append("asked")) for one in FAKES)
    for _ in range(3):
        assert choose_again(counting, PROBLEM, name) is choose(counting, PROBLEM, name)
    asked = len(FAKES) if name == "auto" else 1
    assert len(counted) == (1 + 3) * asked


def test_a_named_one_that_cannot_raises_its_reason_alone() -> None:
    with pytest.raises(NotImplementedError) as caught:
        choose(FAKES, PROBLEM, "quickest")
    assert str(caught.value).splitlines() == [
        "some_output: no implementation can run this call.",
        "  quickest: needs a CUDA tensor",
    ]


def test_all_reasons_are_listed_when_none_can() -> None:
    unable = (fake("one", 1.0, "needs float32"), fake("other", 1.0, "needs a 2-d map"))
    with pytest.raises(NotImplementedError) as caught:
        choose(unable, PROBLEM)
    assert str(caught.value).splitlines()[1:] == ["  one: needs float32", "  other: needs a 2-d map"]


def test_an_unknown_name_lists_the_known_and_suggests() -> None:
    with pytest.raises(ArgumentError) as caught:
        choose(FAKES, PROBLEM, "quik")
    assert str(caught.value) == (
        "some_output: impl must be one of auto, slow, quick, quickest, fair, got 'quik'. "
        "Closest: quick, quickest."
    )


def test_a_fault_in_a_reason_is_loud() -> None:
    """No except in the dispatch: a bug there must not read as "cannot"."""

    def faulty(_: Problem) -> str | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        choose((replace(FAKES[0], why_not=faulty), FAKES[1]), PROBLEM)


@each_operator
def test_nothing_is_remembered_between_calls(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named call leaves the next choice alone, and the tuple of implementations is read afresh."""
    module, function, names = OPERATORS[operator]
    ran = []

    def recorded(one: Implementation) -> Implementation:
        def run(*arguments: Tensor) -> Tensor:
            ran.append(one.name)
            return one.run(*arguments)

        return replace(one, run=run)

    able = [one for one in import_module(module).IMPLEMENTATIONS if one.name != "triton"]
    implementations = tuple(map(recorded, able))
    monkeypatch.setattr(f"{module}.IMPLEMENTATIONS", implementations)
    tensors = CASE.draw(*names)
    expected = []
    function(**tensors)
    for one in implementations:
        function(**tensors, impl=one.name)
        function(**tensors)
        expected += [one.name, ran[0]]
    assert ran[1:] == expected


@each_operator
def test_a_problem_describes_the_call(operator: str) -> None:
    module, _, names = OPERATORS[operator]
    problem = import_module(module).describe(**CASE.draw(*names))
    letters = (problem.batch, problem.heads, problem.query_depth, problem.intra_depth, problem.value_depth)
    # Of a content lambda, which has no queries, one image is described.
    b, h = (CASE.b, CASE.h) if "queries" in names else (1, 1)
    assert letters == (b, h, CASE.k, CASE.u, CASE.v)
    assert (problem.operation, problem.positions) == (operator, CASE.n)
    assert math.prod(problem.scope) == (CASE.m if operator == "content_summary" else 15)
    assert (problem.dtype, problem.device, problem.backward) == (torch.float64, "cpu", False)


def test_reachable_scope_joins_two_elements_of_the_map() -> None:
    assert PROBLEM.reachable_scope == (3, 9)
    assert (PROBLEM.positions, PROBLEM.item_bytes) == (35, 4)


def test_unknown_devices_count_as_a_cpu() -> None:
    assert rates("mps") == RATES["cpu"] != rates("cuda") == RATES["cuda"]


depths = st.integers(1, 64)
# Sizes and scopes of 1, 2 or 3 axes.
problem_fields = st.fixed_dictionaries(
    {
        "batch": depths,
        "heads": depths,
        "query_depth": depths,
        "intra_depth": st.integers(1, 4),
        "value_depth": depths,
        "sides": st.lists(st.tuples(depths, st.sampled_from([1, 7, 23, 127])), min_size=1, max_size=3),
        "dtype": st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
        "device": st.sampled_from(["cpu", "cuda", "mps"]),
        "backward": st.booleans(),
    }
)


def problem_from(sides: list[tuple[int, int]], **fields: Any) -> Problem:
    size, scope = zip(*sides, strict=True)
    return PROBLEM._replace(size=size, scope=scope, **fields)


@given(fields=problem_fields)
@each_implementation
def test_costs_are_seconds_that_grow_with_the_problem(
    operator: str, implementation: Implementation, fields: dict[str, Any]
) -> None:
    problem = problem_from(**fields)
    seconds = implementation.cost(problem)
    assert 0 < seconds < math.inf
    for letter in ("batch", "heads", "query_depth", "intra_depth", "value_depth"):
        larger = problem._replace(**{letter: 2 * getattr(problem, letter)})
        assert implementation.cost(larger) >= seconds, letter
    assert implementation.cost(problem._replace(batch=problem.batch + 1)) > seconds
    assert implementation.cost(problem._replace(size=tuple(side + 1 for side in problem.size))) > seconds


@given(fields=problem_fields)
@each_implementation
def test_a_reason_is_words_or_none_and_needs_no_device(
    operator: str, implementation: Implementation, fields: dict[str, Any]
) -> None:
    reason = implementation.why_not(problem_from(**fields))
    assert reason is None or reason.strip()


@each_operator
def test_the_reference_comes_first_and_runs_everything(operator: str) -> None:
    implementations = import_module(OPERATORS[operator][0]).IMPLEMENTATIONS
    assert isinstance(implementations, tuple)
    names = [one.name for one in implementations]
    assert names[0] == "reference"
    assert len(set(names)) == len(names)
    assert implementations[0].why_not(PROBLEM) is None


def test_a_former_name_is_accepted() -> None:
    tensors = Case(size=(5, 4), scope=(3, 3)).draw("queries", "values", "table")
    assert torch.equal(position_output(**tensors, impl="mixed"), position_output(**tensors, impl="fourier"))
