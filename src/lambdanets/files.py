"""Files and folders that are whole or not there: written beside, flushed to the disk, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lambdanets.errors import ArgumentError, StorageError


def absolute(path: str) -> str:
    """A path as any working directory finds it; `~` is the home. Links are not followed."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111


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


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush(path: Path) -> None:
    """Wait until the disk has what is in a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file by a whole new one; a crash leaves either, never a mixture."""
    with storing(path):
        beside = path.with_name(f".tmp-{path.name}-{os.getpid()}")
        try:
            write_flushed(beside, content)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        flush(path.parent)


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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"{who}: folder must be new or empty, got {folder}, which holds something else.")
    beside = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        with storing(folder, who, "Free some space or use another folder."):
            beside.mkdir(parents=True)
            yield beside
            flush(beside)
            beside.rename(folder)
            flush(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
