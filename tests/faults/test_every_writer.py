"""Each file that a command writes: whole or not there, its mode kept, and never through a link."""

import errno
import os
import stat

import pytest
from matplotlib.figure import Figure

from lambdanets.cli.predict import _results_to
from lambdanets.data.folders import write_class_names
from lambdanets.data.shard_index import read_index
from lambdanets.detection.check import _write as write_mended
from lambdanets.detection.evaluation import write_results
from lambdanets.errors import ArgumentError, StorageError
from lambdanets.paper.results import Result, append_result
from lambdanets.pseudo.labelling import _claim
from lambdanets.runs.eval_table import _COLUMNS, _append_row
from lambdanets.runs.figure_style import save_figure
from support.archives import samples, write_tar
from support.disk import Disk, snapshot

RESULT = Result(table=1, row="a", column="b", value=1.0, kind="measured")


def _predictions(path):
    with _results_to(path, "csv") as file:
        file.write("path,label\n" * 10)
        file.flush()
        file.write("a,b\n" * 10)


# The file that each writes, by its name, and how.
WRITERS = {
    "found.csv": _predictions,
    "table_01.jsonl": lambda path: append_result(path.parent, RESULT),
    "table.csv": lambda path: _append_row(path, dict.fromkeys(_COLUMNS, 1)),
    "figure.png": lambda path: save_figure(Figure((1, 1)), path, "figure"),
    "results.json": lambda path: write_results(path, []),
    "mended.json": lambda path: write_mended(path, {"images": []}),
    "classes.txt": lambda path: write_class_names(path.parent, ("a", "b")),
    "classes.json": lambda path: write_class_names(path.parent, ("a\nb", "c")),
}
each_writer = pytest.mark.parametrize("name", WRITERS)
# These add to what is there.
ADDING = ("table_01.jsonl", "table.csv")


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@each_writer
@pytest.mark.parametrize("kind", ["link", "broken link", "pipe", "folder"])
def test_what_is_no_file_stays_as_it_is(tmp_path, name, kind):
    path, other = tmp_path / "out" / name, tmp_path / "other"
    path.parent.mkdir()
    if kind == "link":
        other.write_text("" if name == "table.csv" else "of others\n")
    make = {"pipe": os.mkfifo, "folder": os.mkdir}.get(kind, lambda path: path.symlink_to(other))
    make(path)
    before = snapshot(tmp_path)
    # A table is read before a row is added to it.
    reasons = f"{name} must be (writable, got 'a (link|pipe|folder)|a table of)"
    with pytest.raises((StorageError, ArgumentError), match=reasons) as raised:
        WRITERS[name](path)
    assert raised.value.exit_code in (2, 7) and "\n" not in str(raised.value)
    assert snapshot(tmp_path) == before


@each_writer
def test_modes(tmp_path, name):
    path, before = tmp_path / name, os.umask(0o077)
    try:
        WRITERS[name](path)
        assert _mode(path) == 0o600
        path.chmod(0o640)
        WRITERS[name](path)
    finally:
        os.umask(before)
    assert _mode(path) == 0o640


@each_writer
@pytest.mark.parametrize("half", [False, True], ids=["refused", "half written"])
@pytest.mark.parametrize("old", [False, True], ids=["new", "there"])
def test_at_every_call(tmp_path, name, half, old):
    path = tmp_path / name
    if old:
        WRITERS[name](path)
    before = path.read_bytes() if old else None
    with Disk().at_work() as disk:
        WRITERS[name](path)
    whole = path.read_bytes()
    numbers = [number for number, call in enumerate(disk.calls, 1) if not half or "write" in call]
    assert len(numbers) >= (1 if half else 3)
    for number in numbers:
        path.unlink(missing_ok=True)
        if old:
            path.write_bytes(before)
        code = (errno.ENOSPC, errno.EIO)[number % 2]
        with Disk(lambda call, number=number: call == number, code, half).at_work() as disk:
            try:
                WRITERS[name](path)
            except StorageError as error:
                assert f"must be writable, got '{os.strerror(code)}'" in str(error)
        assert disk.failed
        found = path.read_bytes() if path.exists() else None
        assert found in (before, whole) or (not found and name in ADDING)
        assert [one.name for one in tmp_path.iterdir()] in ([name], [])


def test_an_interrupted_table_keeps_what_was_found(tmp_path):
    with pytest.raises(KeyboardInterrupt), _results_to(tmp_path / "found.csv", "csv") as file:
        file.write("one\n")
        raise KeyboardInterrupt
    assert (tmp_path / "found.csv").read_text() == "one\n"
    with pytest.raises(RuntimeError), _results_to(tmp_path / "found.csv", "csv") as file:
        file.write("two\n")
        raise RuntimeError
    assert (tmp_path / "found.csv").read_text() == "one\n"
    assert [one.name for one in tmp_path.iterdir()] == ["found.csv"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o400])
@pytest.mark.parametrize("old", [None, 0o644, 0o666])
def test_an_index_is_as_private_as_its_shard(tmp_path, monkeypatch, mode, umask, old):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    shard = write_tar(tmp_path / "a.tar", samples([0, 1]))
    shard.chmod(mode)
    index = tmp_path / "a.tar.index.json"
    if old is not None:
        index.write_text("of an earlier shard")
        index.chmod(old)
    before = os.umask(umask)
    try:
        read_index(shard)
    finally:
        os.umask(before)
    assert not _mode(index) & ~mode
    assert old is not None or _mode(index) == mode & ~umask


def test_labels_are_written_into_no_folder_of_others(tmp_path):
    (tmp_path / "report.md").write_text("of others")
    before = snapshot(tmp_path)
    with pytest.raises(
        ArgumentError, match=r"pseudo label: folder must be new or empty, got .* with report.md\."
    ):
        _claim(tmp_path, {})
    assert snapshot(tmp_path) == before
