"""A disk that fails: every call of the system that writes is counted, and those that are chosen fail."""

import builtins
import errno
import io
import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest

# What changes a disk; `open` only where it is for writing.
CALLS = ("open", "pwrite", "ftruncate", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "chmod")
_TO_WRITE = os.O_WRONLY | os.O_RDWR


class Disk:
    """Counts the calls, and lets some fail.

    Args:
        fails: Of the number of a call, from 1 on, whether it does.
        code: The error.
        half: A write does half of its work before it fails; other calls work.
        refused: Names of files that are never taken.
    """

    def __init__(self, fails=lambda number: False, code=errno.ENOSPC, half=False, refused=()):
        self.fails, self.code, self.half, self.refused = fails, code, half, refused
        self.calls = []
        self.failed = 0

    def is_next_bad(self, name, *given):
        self.calls.append(name)
        bad = self.fails(len(self.calls)) and (not self.half or name in ("write", "pwrite"))
        if name == "open" and self.refused:
            bad = re.sub(r"^\.tmp-(.*)-\d+$", r"\1", Path(given[0]).name) in self.refused
        self.failed += bad
        return bad

    def error(self):
        return OSError(self.code, os.strerror(self.code))

    @contextmanager
    def at_work(self):
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._call(name, getattr(os, name)))
            patch.setattr(os, "fdopen", self._fdopen(os.fdopen))
            # Whoever opens a file in another way is not counted, and must not be there.
            patch.setattr(builtins, "open", self._no_writing(builtins.open))
            patch.setattr(io, "open", self._no_writing(io.open))
            yield self

    def _call(self, name, real):
        def call(*given, **named):
            if name == "open" and not given[1] & _TO_WRITE:
                return real(*given, **named)
            if self.is_next_bad(name, *given):
                if self.half:
                    real(given[0], given[1][: len(given[1]) // 2], given[2])
                raise self.error()
            # Nothing is asked of the real disk: it would take most of the time.
            return None if name == "fsync" else real(*given, **named)

        return call

    def _fdopen(self, real):
        def fdopen(descriptor, mode="r", *given, **named):
            file = real(descriptor, mode, *given, **named)
            return _File(file, self) if "w" in mode else file

        return fdopen

    def _no_writing(self, real):
        def call(file, mode="r", *given, **named):
            is_written = not isinstance(file, int) and set(mode) & set("wax+")
            assert not is_written, f"{file} is written past lambdanets.files"
            return real(file, mode, *given, **named)

        return call


class _File:
    """A file whose writes may fail."""

    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def write(self, content):
        if self._disk.is_next_bad("write"):
            if self._disk.half:
                self._file.write(content[: len(content) // 2])
            raise self._disk.error()
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


def snapshot(folder):
    """Everything about what is in a folder: names, inodes, modes, contents, where links lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mode, content)
    return found
