"""The one writer of files: whole or not there, flushed to the disk, never through a link."""

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lambdanets.errors import ArgumentError, StorageError
from lambdanets.reading import kind_of

# What `_beside` gives.
_HALF = re.compile(r"\.tmp-.+-[0-9]+")

# Bytes that are looked through for the end of the last whole line.
_BLOCK = 2**16
_LONGEST_LINE = 2**24


def absolute(path: str) -> str:
    """A path as any working directory finds it; `~` is the home. Links are not followed."""
    return os.path.abspath(from_home(path))  # noqa: PTH100


def from_home(path: str | Path) -> Path:
    """A path whose `~` is the home; for a user without one it stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


@contextmanager
def storing(
    what: Path, who: str = "run folder", advice: str = "Free some space or use --out."
) -> Iterator[None]:
    """Turn a failure of the disk into one sentence that names who complains, the path and a remedy."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{who}: {what} must be writable, got '{reason}'. {advice}") from error


def make_folder(path: Path, who: str = "run folder", advice: str = "Free some space or use --out.") -> None:
    """Make a folder, with those above it, where there is none yet."""
    with storing(path, who, advice):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise _wrong_kind(path, path.lstat().st_mode, "a folder") from None


def make_inner_folder(
    path: Path, who: str = "run folder", advice: str = "Free some space or use --out."
) -> None:
    """Make a folder in one that is there, where there is none yet.

    Raises:
        StorageError: The folder above is gone, or there is a link or a file.
    """
    with storing(path, who, advice):
        try:
            path.mkdir()
        except FileExistsError:
            mode = path.lstat().st_mode
            if not stat.S_ISDIR(mode):
                raise _wrong_kind(path, mode, "a folder") from None


def write_flushed(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file and wait until the disk has it; the umask takes from its mode."""
    with _created(path, mode) as file:
        file.write(content)


@contextmanager
def _created(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Open a new file, and wait at the end until the disk has it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_at(descriptor: int, content: bytes, start: int) -> None:
    """Write bytes at a place of an open file, all of them."""
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], start + done)


def flush(path: Path) -> None:
    """Wait until the disk has what is in a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(
    path: Path,
    content: bytes,
    who: str = "run folder",
    advice: str = "Free some space or use --out.",
    *,
    mode: int | None = None,
) -> None:
    """Replace a file by a whole new one, with the mode it had; a crash leaves either, never a mixture.

    Args:
        path: The file. Its folder must be there.
        content: All of it.
        who: Who complains.
        advice: What to do when the disk fails.
        mode: What may be done with it at most, such as the mode of the file that it describes; from that of
            a new file the umask takes too.

    Raises:
        StorageError: The disk fails, or the path is a link, a folder, a pipe or a device.
    """
    with new_file(path, who, advice, mode=mode) as file:
        file.write(content)


@contextmanager
def new_file(
    path: Path,
    who: str = "run folder",
    advice: str = "Free some space or use --out.",
    *,
    mode: int | None = None,
) -> Iterator[BinaryIO]:
    """Open a file beside that takes the place of `path` when all is written, and else goes away.

    The arguments and the errors are those of `replace_file`.
    """
    with storing(path, who, advice):
        old, most = _regular_mode(path), 0o777 if mode is None else mode
        beside = _beside(path)
        # Of a killed process that had the same number.
        beside.unlink(missing_ok=True)
        try:
            # Never more open than it will be.
            with _created(beside, (0o666 if old is None else old) & most) as file:
                yield file
            if old is not None:
                beside.chmod(old & (most | ~0o777))
            beside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        flush(path.parent)


def _beside(path: Path) -> Path:
    """The name under which this process writes what will have the name of a path."""
    return path.with_name(f".tmp-{path.name[:50]}-{os.getpid()}")


def _regular_mode(path: Path) -> int | None:
    """The mode of the regular file at a path; None where there is none.

    Raises:
        OSError: There is something else, such as a link, which is not written through.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise _wrong_kind(path, status.st_mode, "a file")
    return stat.S_IMODE(status.st_mode)


def _wrong_kind(path: Path, mode: int, needed: str) -> OSError:
    if stat.S_ISLNK(mode):
        return OSError(f"a link to {path.readlink()}, and links are not written through")
    return OSError(f"{kind_of(mode)} where {needed} is needed")


def append_line(
    path: Path,
    line: str,
    who: str = "run folder",
    advice: str = "Free some space or use --out.",
) -> None:
    """Add a line to a file of lines: all of it or nothing. A half line before it, as a kill leaves, is cut.

    Raises:
        StorageError: The disk fails, or the path is a link, a folder, a pipe or a device.
    """
    with storing(path, who, advice):
        _regular_mode(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("no regular file")
            end = _end_of_lines(file.fileno())
            os.ftruncate(file.fileno(), end)
            try:
                write_at(file.fileno(), f"{line}\n".encode(), end)
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise


def _end_of_lines(descriptor: int) -> int:
    """The position behind the last line break of a file; its end where no line is so long."""
    size = end = os.fstat(descriptor).st_size
    while end:
        if size - end > _LONGEST_LINE:
            return size
        start = max(0, end - _BLOCK)
        place = os.pread(descriptor, end - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


def check_empty(folder: Path, who: str) -> None:
    """Raise where a folder holds something, but for files that a killed process has left half written.

    Raises:
        ArgumentError: It does, or it is a file.
        StorageError: It cannot be read.
    """
    with storing(folder, who):
        if not folder.exists():
            return
        names = [one.name for one in folder.iterdir()] if folder.is_dir() else [f"{folder.name}, a file"]
    found = sorted(name for name in names if not _HALF.fullmatch(name))
    if found:
        raise ArgumentError(f"{who}: folder must be new or empty, got {folder} with {found[0]}.")


@contextmanager
def new_folder(folder: Path, who: str) -> Iterator[Path]:
    """Make a folder beside that takes the place of `folder` when all is written, and else goes away.

    Args:
        folder: The folder, which must be new or empty.
        who: Who complains.

    Raises:
        ArgumentError: There is something in the folder, or it is a file.
        StorageError: The disk is full or the folder cannot be written.
    """
    check_empty(folder, who)
    if folder.is_symlink():
        raise ArgumentError(f"{who}: folder must be no link, got {folder}.")
    beside = _beside(folder)
    with storing(folder, who, "Free some space or use another folder."):
        beside.mkdir(parents=True)
        try:
            yield beside
            flush(beside)
            beside.rename(folder)
            flush(folder.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
