"""The pages say what is true: their code runs, their lists are complete, their numbers are not stale."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

import lambdanets.functional
import lambdanets.nn
from lambdanets.cli import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of every code block in one language."""
    pattern = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(page.name, text) for page in PAGES for text in pattern.findall(page.read_text())]


PLAIN, WITH_OTHERS = (
    [
        block
        for block in blocks("python")
        # The blocks of python.md are one program, which the last test runs.
        if block[0] != "python.md" and (block[0] == "interop.md") is with_others
    ]
    for with_others in (False, True)
)


@pytest.mark.parametrize(("page", "text"), PLAIN)
def test_python_blocks_run(page: str, text: str) -> None:
    exec(compile(text, page, "exec"), {"__name__": "block"})
    assert text.strip()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("page", "text"), WITH_OTHERS)
def test_python_blocks_with_the_libraries_of_others_run(
    page: str, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, page, "exec"), {"__name__": "block"})
    printed = capsys.readouterr().out
    # What a block says that it prints.
    for expected in re.findall(r"^print\(.*# (torch\.Size.*)$", text, re.MULTILINE):
        assert expected in printed
    for number in re.findall(r"# twice (\d+)$", text, re.MULTILINE):
        assert f"{number} {number}" in printed


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for _, text in blocks("bash") for line in text.splitlines()]
    return [
        line
        for line in dict.fromkeys(lines)
        # The images are the reader's own.
        if "--data.root" not in line
        if line.endswith("--dry-run")
        or line.startswith(
            (
                *("lambdanets models", "lambdanets info", "lambdanets bench ops --explain"),
                *("lambdanets tables ", "lambdanets recipes"),
            )
        )
    ]


@pytest.mark.parametrize(
    "line",
    # Deep networks and every network of several tables take a while to count.
    [
        pytest.param(line, marks=[pytest.mark.slow] * (" tables " in line or line.endswith("--dry-run")))
        for line in commands()
    ],
)
def test_commands_that_need_no_training_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for page in PAGES for target in re.findall(r"`?\bmake ([a-z-]+)`?", _code(page.read_text()))
    }
    assert named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named), named


def _code(text: str) -> str:
    return "\n".join([*re.findall(r"```bash\n(.*?)```", text, re.DOTALL), *re.findall(r"`[^`\n]+`", text)])


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_named_in_pages_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]+)`", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_package_is_in_the_readmes_tree() -> None:
    readme = (ROOT / "README.md").read_text()
    packages = [path.parent.name for path in (ROOT / "src/lambdanets").glob("*/__init__.py")]
    assert len(packages) >= 8
    assert all(f"{package}/" in readme for package in packages)


def test_every_public_function_and_module_is_in_the_mathematics() -> None:
    page = (ROOT / "docs/mathematics.md").read_text()
    for name in (*lambdanets.functional.__all__, *lambdanets.nn.__all__):
        assert f"`{name}`" in page, name


def test_code_and_pages_do_not_know_where_they_were_written() -> None:
    # Paths of a machine, hosts of a registry: put together here so that this file does not hold them.
    hints = ["/" + "work/", "/" + "root/", "pypi" + ".org", "python" + "hosted"]
    files = [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "Makefile"]
    for path in files:
        assert not any(hint in path.read_text() for hint in hints), path


# Counting every network takes a while: the test below.
WITH_ARGUMENTS = ("paper_counts", "digit_photos")
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem not in WITH_ARGUMENTS)


@pytest.mark.usefixtures("as_registered")
@pytest.mark.parametrize(
    "path",
    # It trains.
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem == "own_data")) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_examples_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_the_example_data_are_files_in_folders_and_the_same_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(name: str, per_class: int) -> dict[str, bytes]:
        options = [str(tmp_path / name), "--train", str(per_class), "--val", "1"]
        monkeypatch.setattr("sys.argv", ["digit_photos.py", *options])
        runpy.run_path(str(ROOT / "examples/digit_photos.py"), run_name="__main__")
        found = sorted((tmp_path / name).rglob("*.png"))
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in found}

    few, more = files("few", 1), files("more", 2)
    assert (len(few), len(more)) == (20, 30) and "train/zero/000.png" in few
    assert few.items() <= more.items() and len(set(more.values())) == 30
    assert "20 images to train with, 10 to validate with" in capsys.readouterr().out


@pytest.mark.slow
def test_counts_on_the_page_are_those_of_the_modules(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples/paper_counts.py"), run_name="__main__")
    assert capsys.readouterr().out.strip() in (ROOT / "docs/reproduction.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("as_registered", "unchecked")
def test_the_page_about_python_is_a_program_that_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Up to the digits of times and of what a few epochs learn."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/python.md").read_text()
    pairs = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", page, re.DOTALL)
    assert len(pairs) == page.count("```python") >= 6
    names: dict[str, object] = {"__name__": "block"}
    for code, shown in pairs:
        exec(compile(code, "python.md", "exec"), names)
        printed = capsys.readouterr().out.replace(f"{tmp_path}/", "")
        assert _words(shown) <= _words(printed), code


def _words(text: str) -> set[str]:
    """The words of each line, without numbers and what stands between them.

    Which weights are the best may be another matter on another machine.
    """
    lines = [line for line in text.splitlines() if not line.startswith(("best", "raw weights", " "))]
    return {" ".join(re.findall(r"[A-Za-z_]{4,}", line)) for line in lines}
