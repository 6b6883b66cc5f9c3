"""Sizes and names of files and functions."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import lambdanets

ROOT = Path(lambdanets.__file__).parent
REPOSITORY = ROOT.parents[1]
SOURCES = sorted(ROOT.rglob("*.py"))
FILES = [
    path
    for folder in ("src", "tests", "benchmarks", "examples")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]

LONGEST_FILE = 500
LARGEST_BYTES = 1_000_000
LONGEST_FUNCTION = 60
# A kernel is one loop with everything it knows as arguments.
LONGEST_KERNEL = 100
BANNED_NAMES = {"utils", "helpers", "misc", "common", "base", "manager", "process", "handle"}
BANNED_PREFIXES = ("do_", "my_", "handle_", "process_")
# What a letter of the paper must not be called, as an argument or as a local.
AVOIDED_NAMES = {
    "bs",
    "hw",
    "dim_head",
    "dim_k",
    "dim_u",
    "qk_dim",
    "heads_count",
    "Nh",
    "hh",
    "ww",
    "planes",
}

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def code_lines(function: ast.FunctionDef) -> int:
    """Lines from `def` to the end, less the docstring."""
    first, last = function.lineno, function.end_lineno or function.lineno
    docstring = function.body[0] if ast.get_docstring(function) else None
    documented = 0 if docstring is None else (docstring.end_lineno or 0) - docstring.lineno + 1
    return last - first + 1 - documented


@each_file
def test_a_file_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@each_source
def test_a_function_fits_on_a_screen(path: Path) -> None:
    most = LONGEST_KERNEL if path.name == "_triton_kernels.py" else LONGEST_FUNCTION
    long = {node.name: code_lines(node) for node in functions(path) if code_lines(node) > most}
    assert not long


@each_file
def test_no_file_is_a_drawer(path: Path) -> None:
    assert (
        not {part.removesuffix(".py").strip("_") for part in path.relative_to(REPOSITORY).parts}
        & BANNED_NAMES
    )


@each_source
def test_functions_and_classes_say_what_they_do(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name.strip("_") for node in ast.walk(tree) if isinstance(node, named)]
    assert not [name for name in names if name in BANNED_NAMES or name.startswith(BANNED_PREFIXES)]


@each_source
def test_letters_go_by_the_names_of_the_alphabet(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert not names & AVOIDED_NAMES


@each_source
def test_a_file_begins_with_the_line_of_the_tree(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith((".", ".`")), first


@each_source
def test_no_switch_is_read_from_the_environment_below_the_jobs(path: Path) -> None:
    """No environment variables of our own, no global mode; Triton's are Triton's."""
    if path.relative_to(ROOT).parts[0] in {"functional", "nn", "models", "analysis"}:
        switches = r"\bos\.environ(?!\.get\(\"TRITON_)|\bgetenv\(|^\s*global\s"
        assert not re.search(switches, path.read_text(), flags=re.MULTILINE)


def test_what_is_kept_is_small() -> None:
    """A program or weights that a run leaves behind are not committed."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    sizes = {name: (REPOSITORY / name).stat().st_size for name in listed.split("\0") if name}
    assert len(sizes) > 300
    assert {name: size for name, size in sizes.items() if size > LARGEST_BYTES} == {}
