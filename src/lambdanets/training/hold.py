"""The hold of a process on a run folder: nobody else's folder is taken, and a lost one is noticed."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from lambdanets.errors import ArgumentError, StorageError
from lambdanets.files import make_folder, storing, write_at
from lambdanets.reading import Number, UnreadableError, kind_of, read_json
from lambdanets.training.run_names import CONFIG, LOCK, WRITTEN, half_files, is_beginning

# Entries of a foreign folder that a message names.
_MOST_NAMED: Final = 3


def read_holder(path: Path) -> dict[str, Any]:
    """What the last process that held a run folder wrote down: itself, and the number of sessions."""
    try:
        return dict(read_json(path / LOCK, {"sessions?": Number(int, 0), "finished?": bool}))
    except UnreadableError:
        return {}


def check_claim(path: Path) -> None:
    """Raise unless a run may have a folder: it is new, empty or a run's. Nothing is changed.

    Raises:
        ArgumentError: It is no folder, or holds something else, or links where a run writes.
    """
    with storing(path):
        if os.path.lexists(path) and not path.is_dir():
            kind = kind_of(path.lstat().st_mode)
            raise ArgumentError(f"run folder: {path} must be a folder, got {kind}. Use another --out.")
        try:
            found = {entry.name: entry.stat(follow_symlinks=False).st_mode for entry in os.scandir(path)}
        except FileNotFoundError:
            return
    wrong = [name for name, mode in found.items() if stat.S_ISLNK(mode) and name in WRITTEN]
    if LOCK in found and not stat.S_ISREG(found[LOCK]):
        wrong.insert(0, LOCK)
    if wrong:
        raise ArgumentError(
            f"run folder: {path / wrong[0]} must be of the run itself, got {kind_of(found[wrong[0]])}."
            " Use another --out."
        )
    others = sorted(name for name, mode in found.items() if not is_beginning(name, mode))
    if others and not (CONFIG in found and _may_be_config(path / CONFIG)):
        more = f" and {len(others) - _MOST_NAMED:,} more" if len(others) > _MOST_NAMED else ""
        raise ArgumentError(
            f"run folder: {path} must be new, empty or a run's, got one that holds"
            f" {', '.join(map(repr, others[:_MOST_NAMED]))}{more}. Use another --out."
        )


def _may_be_config(path: Path) -> bool:
    """Whether a file is the config of a run, or a damaged one, which its reader names."""
    try:
        config = read_json(path)
    except UnreadableError:
        return True
    return isinstance(config, dict) and "recipe" in config


class Hold:
    """A run folder that this process holds.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self._stack = stack
        make_folder(path)
        with storing(path):
            self._folder = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            self._lock = self._open(path / LOCK, flags)
        self.seize(self._lock)

    def _open(self, path: Path, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def seize(self, descriptor: int) -> None:
        """Lock an open file; the system drops the lock with the process, however it ends.

        Raises:
            ArgumentError: Another process has it.
        """
        holder = read_holder(self.path)
        with storing(self.path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArgumentError(
                    f"run folder: {self.path} must not be in use, got process {holder.get('pid', '?')} on"
                    f" {holder.get('host', '?')} at work in it. Wait for it, or use another --out."
                ) from None

    def seize_config(self) -> None:
        """Lock config.json too, if it is there: it still tells of a process whose `.lock` was deleted."""
        if (self.path / CONFIG).exists():
            with storing(self.path):
                descriptor = self._open(self.path / CONFIG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            self.seize(descriptor)

    def check(self) -> None:
        """Raise where the folder, or the lock in it, is no longer what this process holds.

        Raises:
            StorageError: It was moved, deleted or replaced.
        """
        for what, descriptor, path in (
            ("folder", self._folder, self.path),
            ("lock", self._lock, self.path / LOCK),
        ):
            try:
                found = path.stat() if what == "folder" else path.lstat()
                is_same = os.path.samestat(found, os.fstat(descriptor))
            except (FileNotFoundError, NotADirectoryError):
                is_same = False
            except OSError:
                # A disk that fails is no other folder: what is written next tells.
                is_same = True
            if not is_same:
                raise StorageError(
                    f"run folder: {path} must stay in its place while the run is at work, got a {what} that"
                    " was moved, deleted or replaced. Nothing more is written; the same command, with --out"
                    " where the folder is now, continues from its last checkpoint."
                )

    def write(self, holder: Mapping[str, Any]) -> None:
        """Write into `.lock`, in place: a new file would have another lock."""
        with storing(self.path / LOCK):
            old = os.pread(self._lock, 2**16, 0)
            # Never shorter, so that it is one call that succeeds or fails.
            content = json.dumps(holder).ljust(len(old) - 1).encode() + b"\n"
            try:
                write_at(self._lock, content, 0)
            except OSError:
                with suppress(OSError):
                    write_at(self._lock, old, 0)
                raise


@contextmanager
def hold(path: Path) -> Iterator[Hold]:
    """Hold a run folder, which is made where there is none.

    Raises:
        ArgumentError: It is another's, or another process holds it.
        StorageError: It cannot be written.
    """
    check_claim(path)
    with ExitStack() as stack:
        held = Hold(path, stack)
        held.seize_config()
        # Another process may have been quicker, or have deleted it.
        check_claim(path)
        held.check()
        with storing(path):
            for half in half_files(path):
                half.unlink(missing_ok=True)
        yield held
