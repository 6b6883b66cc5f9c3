"""Laws of the house: no crumbs of files, no name that nobody uses, the field's words."""

import ast
import builtins
import dis
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType

import pytest

import lambdanets

ROOT = Path(lambdanets.__file__).parent
REPOSITORY = ROOT.parents[1]
SOURCES = sorted(ROOT.rglob("*.py"))
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]

SHORTEST_FILE = 40
# The alphabet, which everything may import; and what kernels share, where triton is imported at the top.
SMALL_FILES = {"__init__.py", "__main__.py", "notation.py", "_triton_kernels.py"}

# A dialect's word -> the field's. Matched in names, docstrings, comments, messages and pages.
WORDS = {
    r"[Pp]ictures?\b": "image",
    r"\b(the|an?|its|moving|whole) averaged? (network|model|weights)": "EMA model",
    r"(?<!standard )(?<!Standard )\bdeviations?\b": "standard deviation, std",
    r"\bpassed over\b": "skipped",
    r"\bmirrored\b": "flipped",
    r"\bshares? of (the|all|each|every|its|images|labels|classes|files)": "fraction",
    r"\bof_(queries|keys|values|table|inputs|weights?|bias|shared|embeddings|states?)\b": "grad_x",
    r"\b(LINES|COLUMNS|NEAR)\b": "BLOCK_M, BLOCK_N",
    r"\bso-manieth\b": "every n-th",
}

# A docstring is a sentence about its object, not the second half of one.
BROKEN_OPENINGS = re.compile(r"(Of|As|None\.|Where|Whose|That|To be|From which|The same\.)\b")

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@each_source
def test_a_file_is_worth_opening(path: Path) -> None:
    if path.name not in SMALL_FILES:
        assert len(path.read_text().splitlines()) >= SHORTEST_FILE


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)


def module_names(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Functions, classes and constants that a module defines without an underscore."""
    for node in tree_of(path).body:
        names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        names += [target.id for target in targets if isinstance(target, ast.Name)]
        yield from ((name, node) for name in names if not name.startswith("_"))


@cache
def words_of(path: Path) -> frozenset[str]:
    """The identifiers of a file, those in its strings too: kernels and lazy names are asked for by name."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", path.read_text()))


# What reads code: other modules, programs, and the pages that people read.
READERS = [
    *SOURCES,
    *PAGES,
    *(path for kind in ("*.html", "*.md") for path in ROOT.rglob(kind)),
    *(path for folder in ("benchmarks", "examples") for path in sorted((REPOSITORY / folder).rglob("*.py"))),
    REPOSITORY / "pyproject.toml",
]
# What people build upon. Modules of public mathematics, and of kernels, whose names are put together where
# they are asked for.
OPEN = {
    "Bottleneck",
    "InvertedBottleneck",
    "VARIANTS",
    "ALPHABET",
    "load_digits",
    "ShardsConfig",
    "HuggingFaceConfig",
}
OPEN_MODULES = {"functional/relative_position.py", "functional/position/_triton_kernels.py"}


def interface(node: ast.AST) -> set[str]:
    """The names in the annotations and bases of a definition: who uses it meets them."""
    parts: list[ast.AST | None] = []
    for one in ast.walk(node):
        if isinstance(one, ast.arg | ast.AnnAssign):
            parts.append(one.annotation)
        elif isinstance(one, ast.FunctionDef):
            parts.append(one.returns)
        elif isinstance(one, ast.ClassDef):
            parts += one.bases
    return {word for part in parts if part for word in re.findall(r"[A-Za-z_]\w*", ast.unparse(part))}


@each_source
def test_a_name_without_an_underscore_is_used_elsewhere(path: Path) -> None:
    """By a module or a page, or in the interface of what is; decorated functions register themselves."""
    if path.relative_to(ROOT).as_posix() in OPEN_MODULES:
        return
    public = dict(module_names(path))
    elsewhere = [words_of(other) for other in READERS if other != path]
    used = {name for name in public if name in OPEN or any(name in words for words in elsewhere)}
    used |= {
        name for name, node in public.items() if getattr(node, "decorator_list", None) and is_function(node)
    }
    while new := {word for name in used for word in interface(public[name]) if word in public} - used:
        used |= new
    assert not public.keys() - used


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """The code of a module and of all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


@each_source
def test_every_name_is_defined(path: Path) -> None:
    """Ruff and mypy take the letters of shape strings for names, and so do not look."""
    instructions = [
        instruction
        for code in code_objects(compile(path.read_text(), str(path), "exec"))
        for instruction in dis.get_instructions(code)
    ]
    stored = {one.argval for one in instructions if one.opname in ("STORE_NAME", "STORE_GLOBAL")}
    loaded = {one.argval for one in instructions if one.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    given = {*dir(builtins), "__annotations__", "__file__", "__name__", "__doc__"}
    assert not loaded - stored - given


@each_source
def test_code_speaks_as_the_field_does(path: Path) -> None:
    assert not dialect(path.read_text())


@each_page
def test_pages_speak_as_the_field_does(path: Path) -> None:
    assert not dialect(path.read_text())


def dialect(text: str) -> list[str]:
    return [
        f"{found[0]!r} is {word} in the field"
        for pattern, word in WORDS.items()
        for found in re.finditer(pattern, text)
    ]


@each_source
def test_docstrings_begin_with_a_sentence(path: Path) -> None:
    documented = (ast.FunctionDef, ast.ClassDef, ast.Module)
    docstrings = [
        ast.get_docstring(node) or "" for node in ast.walk(tree_of(path)) if isinstance(node, documented)
    ]
    assert not [text.splitlines()[0] for text in docstrings if BROKEN_OPENINGS.match(text)]


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "jaxtyping" in path.read_text()], ids=lambda path: path.stem
)
def test_shapes_are_checked_in_every_package_that_writes_some(
    path: Path, pytestconfig: pytest.Config
) -> None:
    hooked = pytestconfig.getoption("jaxtyping_packages").split(",")
    assert f"lambdanets.{path.relative_to(ROOT).parts[0]}" in hooked
