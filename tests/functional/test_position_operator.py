"""The registered operator: what it keeps, how much it uses, and what torch may do with it."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lambdanets.analysis.memory import live_bytes_peak
from lambdanets.functional import position_output
from lambdanets.functional._dispatch import Implementation, choose
from lambdanets.functional.position import (
    IMPLEMENTATIONS,
    _position_operator,
    describe,
    pairs_in_bounds,
)
from support.compare import assert_close
from support.gradients import assert_all_close, outputs_and_gradients
from support.parameters import LAYOUTS, POSITION_FORMS
from support.strategies import Case

NAMES = ("queries", "values", "table")
WORKSPACE = 1 << 16
FAST = POSITION_FORMS[1:]
OUTPUT, GRADIENTS = _position_operator.operator, _position_operator.gradients_operator

each_fast = pytest.mark.parametrize("one", FAST, ids=lambda one: one.name)


@pytest.mark.parametrize(
    "case",
    [
        Case(size=(4, 3), scope=(3, 5)),
        Case(size=(1, 5), scope=(3, 3), u=4),
        Case(size=(5, 1), scope=(3, 1)),
        Case(size=(3, 4), scope=(5, 7), b=0),
        Case(size=(6,), scope=(3,)),
        Case(size=(2, 3, 2), scope=(3, 1, 3), u=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["contiguous", *LAYOUTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("unchecked")
def test_opcheck(case: Case, layout: str, dtype: torch.dtype) -> None:
    place = LAYOUTS.get(layout, torch.clone)
    tensors = [place(tensor).requires_grad_() for tensor in case.draw(*NAMES, dtype=dtype).values()]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    lambdas = case.draw("shared", dtype=dtype)["shared"]
    gradient = torch.randn_like(OUTPUT(*tensors, None, "auto", WORKSPACE)).detach()
    inputs = [tensor.detach() for tensor in tensors]
    for shared, needed in ((None, [True, False, True, False]), (lambdas, [False, True, False, True])):
        torch.library.opcheck(OUTPUT, (*tensors, shared, "auto", WORKSPACE), test_utils=checks)
        arguments = (gradient, *inputs, shared, needed, "auto", WORKSPACE)
        torch.library.opcheck(GRADIENTS, arguments, test_utils=checks)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
# torch's own check reads it of its copies.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_opcheck_under_dynamic_shapes() -> None:
    tensors = [one.requires_grad_() for one in Case(size=(4, 3), scope=(3, 5)).draw(*NAMES).values()]
    torch.library.opcheck(OUTPUT, (*tensors, None, "auto", WORKSPACE))


def test_inputs_are_all_that_is_kept_for_backward() -> None:
    tensors = [one.requires_grad_() for one in Case(size=(9, 8), scope=(5, 7)).draw(*NAMES).values()]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        position_output(*tensors)
    assert {one.data_ptr() for one in kept} <= {one.data_ptr() for one in tensors}


@pytest.mark.parametrize("wanted", NAMES)
@each_fast
def test_each_gradient_alone_is_the_same_as_with_the_others(one: Implementation, wanted: str) -> None:
    tensors = Case(size=(5, 4), scope=(3, 7), u=2).draw(*NAMES)
    outer = torch.randn_like(position_output(**tensors))

    def gradient(*names: str) -> Tensor:
        inputs = {name: tensor.clone().requires_grad_(name in names) for name, tensor in tensors.items()}
        position_output(**inputs, impl=one.name).backward(outer)
        assert all((inputs[name].grad is not None) == (name in names) for name in NAMES)
        return inputs[wanted].grad

    assert_close(gradient(wanted), gradient(*NAMES))


@pytest.mark.parametrize(
    "case",
    [
        Case(size=(7, 6), scope=(5, 3), b=5, u=2, h=3),
        Case(size=(23,), scope=(7,), b=3),
        Case(size=(4, 3, 5), scope=(3, 3, 5), b=2),
    ],
    ids=str,
)
@each_fast
def test_the_smallest_workspace_changes_nothing_but_the_chunks(one: Implementation, case: Case) -> None:
    tensors = case.draw(*NAMES)
    whole = outputs_and_gradients(position_output, tensors, impl=one.name)
    assert_all_close(outputs_and_gradients(position_output, tensors, impl=one.name, workspace=1), whole)


@each_fast
def test_scratch_memory_does_not_grow_with_the_batch(one: Implementation) -> None:
    """Beside inputs and outputs, at most a few workspaces, for 4 images and for 32."""

    def scratch(b: int) -> int:
        q, v, table = Case(size=(14, 14), scope=(9, 9), b=b, k=8, v=16, h=4).draw(*NAMES).values()
        gradient = torch.ones(b, 4, 16, 14, 14, dtype=torch.float64)

        def both(tensor: Tensor) -> object:
            return one.run(tensor, v, table, workspace), one.gradients(
                gradient, tensor, v, table, [True, True, True], workspace
            )

        # Queries, the output, and three gradients.
        plain = sum(one.nbytes for one in (q, gradient, q, v, table))
        return live_bytes_peak(both, q) - plain

    workspace = 1 << 20
    few, many = scratch(4), scratch(32)
    assert many < 6 * workspace
    assert many - few < 4 * workspace


@pytest.mark.parametrize("axes", [(0, 0, None), (1, None, None), (0, 0, 0), (None, 0, 0)])
def test_vmap_is_a_loop(axes: tuple[int | None, ...]) -> None:
    tensors = [
        one if axis is None else torch.stack([one, 2 * one, one + 1], dim=axis)
        for one, axis in zip(Case(size=(4, 3), scope=(3, 5)).draw(*NAMES).values(), axes, strict=True)
    ]

    def item(index: int) -> list[Tensor]:
        return [
            one if axis is None else one.select(axis, index) for one, axis in zip(tensors, axes, strict=True)
        ]

    mapped = torch.vmap(position_output, in_dims=axes)(*tensors)
    for index in range(3):
        assert_close(mapped[index], position_output(*item(index)))


@pytest.mark.parametrize("table_axis", [0, None])
def test_vmap_over_a_shared_lambda(table_axis: int | None) -> None:
    drawn = Case(size=(4, 3), scope=(3, 5)).draw(*NAMES, "shared")
    q, v, table, shared = (torch.stack([one, one + 1]) for one in drawn.values())
    tables = table if table_axis == 0 else table[0]

    def layer(q: Tensor, v: Tensor, table: Tensor, shared: Tensor) -> Tensor:
        return position_output(q, v, table, shared=shared)

    mapped = torch.vmap(layer, in_dims=(0, 0, table_axis, 0))(q, v, tables, shared)
    for item in range(2):
        own = table[item] if table_axis == 0 else table[0]
        assert_close(mapped[item], layer(q[item], v[item], own, shared[item]))


@pytest.mark.slow
def test_a_shared_lambda_has_second_derivatives() -> None:
    tensors = Case(size=(3, 2), scope=(3, 3), b=2, k=2, v=2, h=2).draw(*NAMES, "shared")
    leaves = [one.requires_grad_() for one in tensors.values()]

    def layer(q: Tensor, v: Tensor, table: Tensor, shared: Tensor) -> Tensor:
        return position_output(q, v, table, shared=shared)

    assert torch.autograd.gradcheck(layer, leaves)
    assert torch.autograd.gradgradcheck(layer, leaves)


def test_gradients_of_each_item_under_vmap() -> None:
    q, v, table = Case(size=(4, 3), scope=(3, 5), b=3).draw(*NAMES).values()

    def loss(query: Tensor, value: Tensor, table: Tensor) -> Tensor:
        return position_output(query[None], value[None], table).square().sum()

    each = torch.vmap(torch.func.grad(loss, argnums=2), in_dims=(0, 0, None))(q, v, table)
    for index in range(3):
        assert_close(each[index], torch.func.grad(loss, argnums=2)(q[index], v[index], table))


@pytest.mark.parametrize(
    ("size", "scope"), [((7,), (3,)), ((5,), (23,)), ((4, 6), (3, 9)), ((2, 3, 4), (3, 1, 7))]
)
def test_flops_count_the_pairs_that_are_in_bounds(size: tuple[int, ...], scope: tuple[int, ...]) -> None:
    case = Case(size=size, scope=scope, b=2, k=3, v=5, u=2, h=4)
    pairs = 1
    for length, side in zip(size, scope, strict=True):
        pairs *= sum(abs(m - n) <= side // 2 for m in range(length) for n in range(length))
    assert pairs_in_bounds(size, scope) == pairs
    tensors = [one.requires_grad_() for one in case.draw(*NAMES).values()]
    with FlopCounterMode(display=False) as counter:
        output = position_output(*tensors)
        forward = counter.get_total_flops()
        output.sum().backward()
    assert forward == 2 * 2 * 3 * 5 * (pairs * 2 + case.n * 4)
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.usefixtures("unchecked")
def test_a_second_size_is_not_compiled_again() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(position_output, fullgraph=True, backend="aot_eager", dynamic=True)
    # No side equals another letter: the compiler would take such a pair for one size.
    for size in ((5, 7), (6, 9), (8, 11)):
        tensors = Case(size=size, scope=(3, 3)).draw(*NAMES)
        assert_close(compiled(**tensors), position_output(**tensors))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.usefixtures("unchecked")
def test_exports() -> None:
    class Layer(torch.nn.Module):
        def forward(self, queries: Tensor, values: Tensor, table: Tensor) -> Tensor:
            return position_output(queries, values, table)

    tensors = Case(size=(4, 3), scope=(3, 5)).draw(*NAMES)
    exported = torch.export.export(Layer(), tuple(tensors.values()))
    assert "lambdanets.position_output" in str(exported.graph)
    assert_close(exported.module()(*tensors.values()), position_output(**tensors))


def test_output_and_gradients_may_take_different_implementations(monkeypatch: pytest.MonkeyPatch) -> None:
    def priced(one: Implementation) -> Implementation:
        cheap = {"convolution": False, "dense": True}
        return one.__class__(
            one.name, one.why_not, lambda p: 1.0 if cheap.get(one.name) is p.backward else 2.0, *marked(one)
        )

    ran: list[str] = []

    def marked(one: Implementation):
        def run(*arguments: object) -> Tensor:
            ran.append(f"{one.name} output")
            return one.run(*arguments)

        def gradients(*arguments: object) -> tuple[Tensor, ...]:
            ran.append(f"{one.name} gradients")
            return one.gradients(*arguments)

        return run, gradients

    module = "lambdanets.functional.position.IMPLEMENTATIONS"
    monkeypatch.setattr(module, tuple(map(priced, IMPLEMENTATIONS)))
    tensors = [one.requires_grad_() for one in Case(size=(4, 3), scope=(3, 5)).draw(*NAMES).values()]
    position_output(*tensors).sum().backward()
    assert ran == ["convolution output", "dense gradients"]


@pytest.mark.usefixtures("unchecked")
def test_transforms_that_would_not_fit_are_not_chosen() -> None:
    sizes = ((1, 1, 1, 3000, 3000), (1, 1, 1, 3000, 3000), (1, 1, 5, 5999))
    tensors = [torch.zeros(()).expand(size) for size in sizes]
    with pytest.raises(NotImplementedError, match=r"fourier: needs \d+ MiB of cosines, at most 16 are"):
        position_output(*tensors, impl="fourier")
    chosen = choose(IMPLEMENTATIONS, describe(*tensors, workspace=WORKSPACE))
    assert chosen.name != "fourier"


def test_constants_made_in_inference_mode_serve_training() -> None:
    tensors = Case(size=(6, 11), scope=(3, 9)).draw(*NAMES)
    with torch.inference_mode():
        position_output(**tensors, impl="fourier")
    results = outputs_and_gradients(position_output, tensors, impl="fourier")
    assert_all_close(results, outputs_and_gradients(position_output, tensors, impl="reference"))
