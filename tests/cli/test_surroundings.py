"""Every command in unfriendly surroundings: code 0 and the same words, or its code and one sentence."""

import os
import subprocess
import sys

import pytest

from lambdanets.cli import commands
from support import surroundings
from support.images import make_folder
from support.run_folders import written_run
from support.surroundings import run_in

# Command lines that need nothing but the folder of a run; what they make is what they print.
PRINTING = [
    "models resnet50",
    "models --json",
    "recipes digits",
    "bench ops --explain 7x7",
    "tables 1",
    "tables 1 --format csv",
    "compare run other",
    "compare run --json",
    "data check photos --decode",
    "data check photos --json",
    "slurm digits --nodes 1 --gpus-per-node 1",
    "--help",
    "--version",
    "train --help",
    "pseudo --help",
]
# Those that take seconds.
LONG = [
    "doctor",
    "info lambda_resnet_digits --size 8",
    "completion bash",
    "train digits --dry-run",
    "train digits --help",
]
HELP = [f"{name} --help" for name in commands()]


@pytest.fixture
def folder(tmp_path):
    written_run(tmp_path / "run", 0, 490)
    written_run(tmp_path / "other", 1, 480)
    make_folder(tmp_path / "photos", ("cat", "dog"))
    return tmp_path


def test_every_command_is_among_them():
    known = {line.split()[0] for line in (*PRINTING, *HELP)}
    assert {name.split()[0] for name in commands()} <= known


def _split(lines):
    return [line.split() for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (surroundings.full, 7, "No space left on device"),
        (surroundings.closed, 7, "Bad file descriptor"),
        (surroundings.left, 141, None),
    ],
    ids=["full", "closed", "left"],
)
def test_a_command_whose_words_are_lost_says_so(folder, change, code, reason):
    lines = [*PRINTING, *HELP, *(LONG if change is surroundings.full else [])]
    for line, (found, out, err) in zip(lines, run_in(change, _split(lines), folder), strict=True):
        assert (found, out) == (code, ""), line
        if reason is None:
            assert err == "", line
        else:
            assert err.endswith(f"the standard output must be writable, got '{reason}'.\n"), line
            assert err.count("\n") == 1 and err.startswith("lambdanets"), line


@pytest.mark.slow
def test_nothing_is_said_where_nothing_can_be_said(folder):
    for found, out, err in run_in(surroundings.all_closed, _split(PRINTING), folder):
        assert (found, out, err) == (7, "", "")


@pytest.mark.slow
def test_a_folder_that_is_gone_is_an_error_in_one_sentence(folder):
    lines = [line for line in PRINTING if line not in ("--help", "--version", "pseudo --help")]
    for line, (code, out, err) in zip(
        lines, run_in(surroundings.deleted_folder, _split(lines), folder), strict=True
    ):
        assert (code, out) == (2, ""), line
        assert err.endswith(
            "the working directory must exist, got one that was deleted. Change into another.\n"
        )
        assert err.count("\n") == 1


COMPARED, HELPED, DRAWN = ("compare", "läuft"), ("models", "--help"), ("figure", "4", "--out", "figure.png")
# Where matplotlib keeps the list of its fonts, and what it shows windows with.
HOMELESS = {
    "HOME": "/dev/null/home",
    "XDG_CONFIG_HOME": "",
    "XDG_CACHE_HOME": "",
    "MPLBACKEND": "module://a.b",
}


def _start_in(folder, words, flags=(), variables=None):
    """What a command prints that Python runs with flags and variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    command = [sys.executable, "-W", "error", *flags, "-m", "lambdanets", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment | (variables or {}), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder with a run, and what commands print and draw there."""
    folder = tmp_path_factory.mktemp("plain")
    written_run(folder / "läuft", 0, 490)
    printed = {words: _start_in(folder, words) for words in (COMPARED, HELPED, DRAWN)}
    assert "läuft" in printed[COMPARED]
    return folder, printed, (folder / "figure.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "flags", "variables"),
    [
        (COMPARED, ["-O"], {}),
        (COMPARED, [], {"PYTHONOPTIMIZE": "2", "LC_ALL": "C", "PYTHONUTF8": "0"}),
        (COMPARED, [], {"LC_ALL": "C"}),
        (COMPARED, [], {"LC_ALL": "xx_YY.nothing"}),
        # Help is written in docstrings.
        (HELPED, ["-OO"], {}),
        (DRAWN, ["-OO"], HOMELESS),
    ],
    ids=["O", "variables", "C", "unknown locale", "OO", "no home"],
)
def test_python_may_be_started_in_any_way(plain, words, flags, variables):
    folder, printed, figure = plain
    assert _start_in(folder, words, flags, variables) == printed[words]
    assert (folder / "figure.png").read_bytes() == figure
