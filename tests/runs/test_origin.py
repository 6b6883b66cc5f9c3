"""Where a number comes from."""

import datetime
import re
import subprocess

import pytest
import torch

from lambdanets.runs import origin


def test_versions_are_those_that_run() -> None:
    assert origin.versions()["torch"] == torch.__version__.partition("+")[0]
    assert origin.versions()["python"].startswith("3.")


def test_a_machine_has_a_name_and_cores() -> None:
    assert re.fullmatch(r".+, \d+ cores", origin.machine_name())


def test_without_a_repository_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object, **options: object) -> None:
        raise subprocess.CalledProcessError(128, "git")

    origin.commit.cache_clear()
    monkeypatch.setattr(origin.subprocess, "run", fail)
    assert origin.commit() == "unknown"
    origin.commit.cache_clear()


def test_later_is_sorted_behind() -> None:
    first = origin.now()
    assert datetime.datetime.fromisoformat(first).tzinfo is not None
    assert first <= origin.now()
