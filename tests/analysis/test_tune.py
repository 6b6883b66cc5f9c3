"""The job `tune`, through Triton's interpreter: what it finds is kept, and used by the next call."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lambdanets.analysis.tune import tune
from lambdanets.cli import run
from lambdanets.functional._dispatch import Problem
from lambdanets.functional.position import _tiles
from lambdanets.functional.position.triton import device_name

pytest.importorskip("triton", reason="triton is not installed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = Problem("position_output", 1, 4, 4, 1, 4, (2, 3), (1, 3), torch.float32, DEVICE, False, 1 << 20)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and each candidate timed once: the interpreter takes seconds for a call."""
    path = tmp_path / "tiles.json"
    monkeypatch.setattr(_tiles, "cache_file", lambda: path)
    _tiles.saved_tiles.cache_clear()
    monkeypatch.setattr("lambdanets.analysis.tune.WARM", 0)
    monkeypatch.setattr("lambdanets.analysis.tune.TIMED", 1)
    yield path
    _tiles.saved_tiles.cache_clear()


def test_the_fastest_tiles_are_kept_and_used(cache: Path) -> None:
    found = tune(SMALL, most=2)
    assert [one.kernel for one in found] == list(_tiles.KERNELS)
    for one in found:
        assert (one.tried, one.failed) == (2, 0)
        assert 0 < one.milliseconds <= one.rule_milliseconds
        kept = _tiles.tiles_for(one.kernel, SMALL, device_name(torch.device(DEVICE)))
        assert kept[1:3] == one.tiles[1:3]
    saved = json.loads(cache.read_text())
    assert set(saved[device_name(torch.device(DEVICE))]) == {one.bucket for one in found}


def test_tiles_that_do_not_run_are_left_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = _tiles.Tiles(lines=3, columns=4, near=16, channels=16)
    right = _tiles.Tiles(lines=4, columns=4, near=16, channels=16)
    monkeypatch.setattr("lambdanets.analysis.tune.candidates", lambda *_: [wrong, right])
    for one in tune(SMALL):
        assert (one.tiles, one.tried, one.failed, one.rule_milliseconds) == (right, 1, 1, None)


def test_no_tiles_that_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = _tiles.Tiles(lines=3, columns=4, near=16, channels=16)
    monkeypatch.setattr("lambdanets.analysis.tune.candidates", lambda *_: [wrong])
    with pytest.raises(ValueError, match="bench: tune found no tiles of output that run at this shape"):
        tune(SMALL)
    assert not cache.exists()


def test_the_command_prints_what_it_found(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles = [_tiles.Tiles(4, 4, 16, 16), _tiles.Tiles(8, 4, 16, 16)]
    monkeypatch.setattr("lambdanets.analysis.tune.candidates", lambda *_: tiles)
    small = ("--scope", "1x3", "--batch", "1", "--channels", "8", "--query-depth", "2", "--num-heads", "4")
    assert run(("bench", "ops", "--tune", "2x3", "--device", DEVICE, *small)) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[2:6]] == list(_tiles.KERNELS)
    assert printed.splitlines()[2].split()[-2:] == ["2", "0"]
    assert printed.endswith(f"kept in {cache}\n")
    assert run(("bench", "ops", "--tune", "2x3", "--device", DEVICE, "--format", "json", *small)) == 0
    assert {one["kernel"] for one in json.loads(capsys.readouterr().out)} == set(_tiles.KERNELS)
