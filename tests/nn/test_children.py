"""What is attached to a child of a layer, or put in its place, acts as in a layer that calls its children."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import pytest
import torch

from support import attachments
from support.compare import assert_close
from support.plain_children import FORMS, Form, make_pair, run


def assert_same(form: Form, training: bool, way: attachments.Way, child: str) -> None:
    layer, plain = make_pair(form, training)
    arguments = form.arguments()
    results, seen = {}, {}
    for name, one in (("layer", layer), ("plain", plain)):
        with ExitStack() as stack:
            torch.manual_seed(3)
            seen[name] = way(one, child, stack)
            results[name] = run(one, arguments)
    assert results["layer"].keys() == results["plain"].keys()
    for name, expected in results["plain"].items():
        if expected.norm() > 1e-9 or results["layer"][name].norm() > 1e-9:
            assert_close(results["layer"][name], expected, what=name)
    assert seen["layer"] == seen["plain"]
    assert seen["plain"] is None or len(seen["plain"]) == 1


def ways_of(child: str, form: str) -> dict[str, attachments.Way]:
    """What can be done to a child of a form's layer."""
    if child.startswith("to_"):
        return attachments.LINEAR if "tokens" in form else attachments.CONVOLUTION
    if child.startswith("norm_"):
        return attachments.NORM if "layer" in form or "causal" in form else attachments.BATCH_NORM
    if child == "position":
        return attachments.POSITION
    return {} if "tokens" in form else attachments.POOL


def cases() -> Iterator[object]:
    """Every child, way, form and mode; two of each child and way are in the default part, a fifth slow."""
    count = 0
    for child in ("to_queries", "to_keys", "to_values", "norm_queries", "norm_values", "position", "pool"):
        forms_of: dict[str, list[str]] = {}
        for form in FORMS:
            for way in ways_of(child, form):
                forms_of.setdefault(way, []).append(form)
        for way, forms in forms_of.items():
            count += 1
            quick = {(forms[count % len(forms)], "train"), (forms[(count + 1) % len(forms)], "eval")}
            for number, case in enumerate(product(forms, ("train", "eval"))):
                other = pytest.mark.exhaustive if (number + count) % 5 else pytest.mark.slow
                marks = () if case in quick else other
                yield pytest.param(child, way, *case, marks=marks, id="-".join((child, way, *case)))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo looks at it
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script`:FutureWarning", "ignore:Using a non-full:FutureWarning"
)
@pytest.mark.parametrize(("child", "way", "form", "mode"), list(cases()))
def test_a_child_acts_as_if_it_was_called(
    child: str, way: str, form: str, mode: str, request: pytest.FixtureRequest
) -> None:
    if way.startswith("compiled"):
        request.getfixturevalue("unchecked")
    assert_same(FORMS[form], mode == "train", ways_of(child, form)[way], child)
