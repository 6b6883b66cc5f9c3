"""The one writer: a file is whole or not there, keeps its mode, and is never written through a link."""

import errno
import os
import stat

import pytest

from lambdanets.errors import StorageError
from lambdanets.files import append_line, replace_file

WRITERS = {
    "replace": lambda path: replace_file(path, b"new\n"),
    "append": lambda path: append_line(path, "new"),
}
each_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@each_writer
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to(path.parent / "other"), "a link to .*other, and links are not"),
        (os.mkfifo, "a pipe where a file is needed"),
        (lambda path: path.mkdir(), "a folder where a file is needed"),
        (lambda path: path.symlink_to("/dev/null"), "a link to /dev/null"),
    ],
)
def test_what_is_no_regular_file_stays_as_it_is(tmp_path, write, make, reason):
    (tmp_path / "other").write_text("of others")
    make(tmp_path / "file")
    before = (tmp_path / "file").lstat()
    with pytest.raises(StorageError, match=f"run folder: .*file must be writable, got '{reason}"):
        write(tmp_path / "file")
    assert (tmp_path / "file").lstat().st_ino == before.st_ino
    assert (tmp_path / "other").read_text() == "of others"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


@each_writer
def test_modes(tmp_path, write):
    before = os.umask(0o077)
    try:
        write(tmp_path / "file")
        assert _mode(tmp_path / "file") == 0o600
        (tmp_path / "file").chmod(0o640)
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert _mode(tmp_path / "file") == 0o640


@each_writer
def test_a_folder_that_is_gone_is_not_made_anew(tmp_path, write):
    with pytest.raises(StorageError, match="No such file or directory"):
        write(tmp_path / "run" / "file")
    assert not (tmp_path / "run").exists()


@each_writer
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, write, code, call):
    path = tmp_path / "file"
    path.write_text("old\n")
    real_write = os.pwrite

    def fail(*given, **options):
        if call == "write" and write is WRITERS["append"]:
            real_write(given[0], given[1][:2], given[2])
        raise OSError(code, os.strerror(code))

    if write is WRITERS["append"]:
        if call == "replace":
            pytest.skip("nothing is renamed")
        monkeypatch.setattr(os, "pwrite" if call == "write" else call, fail)
    elif call == "write":
        monkeypatch.setattr(os, "fdopen", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=f"got '{os.strerror(code)}'"):
        write(path)
    monkeypatch.undo()
    assert path.read_text() == "old\n"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("half", ['{"a": 1', "x" * 200_000])
def test_a_half_line_is_cut_before_the_next(tmp_path, half):
    path = tmp_path / "metrics.jsonl"
    for old, kept in (("", ""), ("one\ntwo\n", "one\ntwo\n")):
        path.write_text(old + half)
        append_line(path, "three")
        assert path.read_text() == f"{kept}three\n"
