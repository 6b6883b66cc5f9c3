"""What docstrings promise: a `Paper:` line of one form, examples that run, letters of one alphabet."""

import ast
import doctest
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch

import lambdanets
from lambdanets.functional import relative_position
from lambdanets.notation import ALPHABET

ROOT = Path(lambdanets.__file__).parent
EXAMPLES = [path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text()]
SHAPED = [path for folder in ("functional", "nn") for path in sorted((ROOT / folder).rglob("*.py"))]

# Axes that stand beside the alphabet, each in one place only.
OTHER_LETTERS = {
    "axes": "one number per axis of a map",
    "c": "tokens of a chunk",
    "past": "values a causal layer still reaches",
    "*cropped": "sides of a table after cropping",
    "*resized": "sides of a table after resizing",
    "*pooled": "positions along each axis after a stride",
    "*rest": "any axes",
    "height": "of a map, where `h` would be heads",
    "width": "of a map",
    "out": "channels of the outputs, where `d` are those of the inputs",
    "1": "an axis to broadcast along",
    "*folded": "any axes, the last of offsets",
    "bv": "batch and value depth as one axis",
    "f": "frequencies",
    "f2": "frequencies, the real and the imaginary part of each",
    "2": "real and imaginary part, or what is even and what is odd",
    "side": "offsets along one axis",
    "padded": "offsets, with zeros on both sides",
    "padded_rows": "offsets along the axis of rows, with zeros on both sides",
    "padded_offsets": "offsets along the axis of columns, with zeros on both sides",
    "*padded": "positions along each axis, of a sequence in whole rows",
    "_": "any number",
    "maps": "maps of a batch, of volumes every slice",
    "maps_v": "maps and value depth as one axis",
    "maps_h": "maps and heads as one axis",
    "n_h": "positions and heads as one axis",
    "slices": "of a volume, or of a window",
    "rows": "of a map, of a block of it, or of a table",
    "columns": "of a map or of a table",
    "offsets": "columns of a table",
    "context": "of the rows of a window, or of all rows, everything that is summed over",
    "window": "the part of a context that is in reach",
    "half": "columns on one side of the middle",
    "half_maps": "columns on one side of the middle and maps as one axis",
    "sides_h": "the two sides and heads as one axis",
    "sides_c": "the two sides and any number as one axis",
    "e": "the other depth of a matrix",
    "blocks": "of a map, and images, as one axis",
}

# `Paper: §3.1, Figure 3; Tables 9 and 11 (scope).` References, each with a note at most.
REFERENCE = r"(§[\dABC](\.\d+)*|(Table|Figure)s? \d+(, \d+)*( and \d+)?)( \([^()]+\)| for [^(),;.]+)?"
PAPER = re.compile(rf"(none \(ours\)|{REFERENCE}([,;] {REFERENCE})*)\.")


def public_objects() -> Iterator[tuple[str, object]]:
    for package in ("lambdanets.functional", "lambdanets.nn"):
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{package}.{name}", value
    for name, value in vars(relative_position).items():
        is_ours = inspect.isfunction(value) and value.__module__ == relative_position.__name__
        # A check is no mathematics.
        if is_ours and not name.startswith(("_", "check_")):
            yield f"{relative_position.__name__}.{name}", value


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_object_names_its_place_in_the_paper(name: str) -> None:
    docstring = inspect.getdoc(PUBLIC[name]) or ""
    papers = re.findall(r"^Paper: (.*)$", docstring, flags=re.MULTILINE)
    assert len(papers) == 1, f"{name} has {len(papers)} lines that begin with Paper:"
    assert PAPER.fullmatch(papers[0]), papers[0]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_begins_with_one_line(name: str) -> None:
    first, *rest = (inspect.getdoc(PUBLIC[name]) or "").splitlines()
    assert first.endswith((".", ":"))
    assert not rest or not rest[0]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(path: Path) -> None:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    module = import_module(".".join(part for part in parts if part != "__init__"))
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0


def shapes(path: Path) -> Iterator[str]:
    """The shape strings of jaxtyping annotations."""
    kinds = {"Float", "Int", "Bool", "Shaped", "Num", "Integer", "Complex"}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Subscript) or ast.unparse(node.value).split(".")[-1] not in kinds:
            continue
        assert isinstance(node.slice, ast.Tuple)
        shape = node.slice.elts[1]
        assert isinstance(shape, ast.Constant)
        yield shape.value


@pytest.mark.parametrize("path", SHAPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shapes_are_spelled_with_the_alphabet(path: Path) -> None:
    for shape in shapes(path):
        unknown = [
            letter for letter in shape.split() if letter not in ALPHABET and letter not in OTHER_LETTERS
        ]
        assert not unknown, shape


def test_no_letter_is_kept_that_nobody_uses() -> None:
    used = {letter for path in SHAPED for shape in shapes(path) for letter in shape.split()}
    assert not (ALPHABET.keys() | OTHER_LETTERS.keys()) - used


def test_tensors_of_public_functions_have_shapes() -> None:
    """A bare `Tensor` says nothing."""
    for path in SHAPED:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.name == "forward" or node.name in PUBLIC_NAMES):
                annotations = [argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)]
                bare = [ast.unparse(one) for one in [*annotations, node.returns] if one is not None]
                assert not {"Tensor", "torch.Tensor", "Tensor | None"} & set(bare), (
                    f"{path.name}: {node.name}"
                )


PUBLIC_NAMES = {name.rpartition(".")[2] for name in PUBLIC}
