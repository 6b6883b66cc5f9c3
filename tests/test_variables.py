"""Variables that others set: what does not fit is refused by one sentence, where it counts."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambdanets.errors import ArgumentError, LostProcessError, StoppedError
from lambdanets.processes import die_with_parent
from lambdanets.training import distributed
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import init_distributed
from lambdanets.variables import (
    PARENT,
    World,
    cache_folder,
    is_first,
    read_address,
    read_world,
    starts_processes,
)
from support.commands import printed, refused
from support.processes import free_port

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
GARBLED = ("", " ", "two", "1.5", "1e3", "0x1", "٣", "1_0", "nan", "9" * 30, "1 2", "1;2")
PAIR = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in (*NAMES, PARENT, "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def environment(monkeypatch):
    return lambda **variables: [monkeypatch.setenv(*one) for one in variables.items()]


def test_nothing_and_a_whole_world_are_read(environment):
    assert read_world() == World() and not starts_processes("train", 0) and starts_processes("train", 2)
    environment(**PAIR, LOCAL_WORLD_SIZE="2", TORCHELASTIC_RESTART_COUNT="3")
    assert read_world() == World(rank=1, local_rank=1, size=2, local_size=2, restarts=3)
    assert read_address() == "localhost:29500" and not starts_processes("train", 0)


def test_a_world_of_one_is_no_world(environment):
    environment(WORLD_SIZE="1")
    assert read_world() == World() and starts_processes("train", 2)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"])
@pytest.mark.parametrize("value", GARBLED)
def test_what_is_no_number_is_named(environment, name, value):
    environment(**PAIR | {name: value})
    with pytest.raises(ArgumentError, match=rf"^environment: {name} must .*, got .*; without one: unset W"):
        read_world(), read_address()
    assert is_first() or name == "MASTER_PORT"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE must stand beside RANK, MASTER_ADDR and MASTER_PORT, got 2"),
        ({"RANK": "0"}, "RANK must stand beside WORLD_SIZE, got 0"),
        ({"LOCAL_RANK": "1"}, "LOCAL_RANK must stand beside WORLD_SIZE, got 1"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE must be from 1 to 1,000,000, got 0"),
        (PAIR | {"WORLD_SIZE": "-2"}, "WORLD_SIZE must be from 1"),
        (PAIR | {"RANK": "2"}, "RANK must be from 0 to 1, below WORLD_SIZE, got 2"),
        (PAIR | {"RANK": "-1"}, "RANK must be from 0 to 1, below WORLD_SIZE, got -1"),
        (PAIR | {"LOCAL_RANK": "7"}, "LOCAL_RANK must be from 0 to 1, below WORLD_SIZE, got 7"),
        (PAIR | {"LOCAL_WORLD_SIZE": "1"}, "LOCAL_WORLD_SIZE must be above LOCAL_RANK, 1, and at most"),
        (
            PAIR | {"LOCAL_WORLD_SIZE": "3"},
            "LOCAL_WORLD_SIZE must be above LOCAL_RANK, 1, and at most WORLD_SIZE, 2, got 3",
        ),
        (PAIR | {"MASTER_PORT": "0"}, "MASTER_PORT must be from 1 to 65535, got 0"),
        (PAIR | {"MASTER_PORT": "70000"}, "MASTER_PORT must be from 1 to 65535, got 70000"),
        (PAIR | {"MASTER_ADDR": ""}, "MASTER_ADDR must stand beside WORLD_SIZE above 1, got none"),
        (PAIR | {"TORCHELASTIC_RESTART_COUNT": "x"}, "TORCHELASTIC_RESTART_COUNT must be a whole number"),
        ({PARENT: "x"}, f"{PARENT} must be a whole number, got 'x'"),
    ],
)
def test_commands_that_train_refuse_and_others_do_not_care(environment, capsys, tmp_path, variables, told):
    environment(**variables)
    for words in (("train", "digits", "--out", tmp_path / "run"), ("eval", tmp_path, "--processes", "2")):
        message = refused(capsys, *words)
        assert f"environment: {told}" in message and "Traceback" not in message
        assert f"unset {' '.join(name for name in (*NAMES, PARENT) if name in variables)}" in message
    assert not (tmp_path / "run").exists()
    if PARENT not in variables:
        assert "lambda_resnet50" in printed(capsys, "models")


@pytest.mark.parametrize("words", [("train", "digits"), ("eval", "run"), ("detect", "eval", "run")])
def test_processes_inside_a_foreign_world_are_refused(environment, capsys, words):
    environment(**PAIR)
    message = refused(capsys, *words, "--processes", "2")
    assert (
        "processes must be left out where a launcher has started several, got 2 beside WORLD_SIZE=2"
        in message
    )


def test_those_we_start_do_not_start_others(environment):
    for size in ("1", "2"):
        environment(**PAIR | {"WORLD_SIZE": size, "RANK": "0", "LOCAL_RANK": "0", PARENT: "5"})
        assert not starts_processes("train", int(size))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        pytest.param({"MASTER_ADDR": "nowhere.invalid"}, marks=pytest.mark.slow),
        pytest.param({"RANK": "0", "LOCAL_RANK": "0"}, marks=pytest.mark.slow),
    ],
)
def test_a_lone_process_of_a_world_says_so_and_ends_in_time(environment, monkeypatch, capsys, variables):
    monkeypatch.setattr(distributed, "_SILENT_S", 0.3)
    environment(**PAIR | {"MASTER_PORT": str(free_port())} | variables)
    started = time.monotonic()
    joined = init_distributed(ExecConfig(device="cpu", timeout_s=1.0))
    with (
        pytest.raises(LostProcessError, match=r"must meet the others of 2 at .* within 1 s, got ") as caught,
        joined,
    ):
        pass
    assert time.monotonic() - started < 20
    assert len(str(caught.value).splitlines()) == 1 and "unset WORLD_SIZE RANK" in str(caught.value)
    assert "waits for the others of 2 at" in capsys.readouterr().err


def test_a_parent_that_a_left_over_variable_names_is_told(environment):
    environment(**{PARENT: "1234567"})
    with pytest.raises(StoppedError, match=f"process 1234567, .* unset {PARENT}$"):
        die_with_parent()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"XDG_CACHE_HOME": "/a/b", "HOME": "/h"}, "/a/b"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache"),
    ],
)
def test_the_folder_of_caches(environment, variables, folder):
    environment(**variables)
    assert cache_folder() == Path(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_user_that_the_system_does_not_know_has_no_folder_of_caches():
    program = (
        "import os, pathlib\n"
        "from lambdanets.data.shard_index import _index_places\n"
        "os.setgid(54321); os.setuid(54321)\n"
        "assert _index_places(pathlib.Path('/a.tar')) == (pathlib.Path('/a.tar.index.json'),)\n"
    )
    names = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", program], env=names, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
