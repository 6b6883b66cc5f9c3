"""Standard streams that may be closed, full, slow or gone: one place says what becomes of a command then.

A command whose product is what it prints ends with an error. One whose product is files, such as a training,
goes on: what it prints is dropped. The standard error is never a reason to stop.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lambdanets.errors import StorageError
from lambdanets.text import shown

# Seconds to wait for a reader that does not read, once, where what is printed may be dropped.
_PATIENCE_S: Final = 10.0
# By their numbers.
_NAMES: Final = ("stdin", "stdout", "stderr")


class OutputError(StorageError):
    """The standard output cannot be written, and is all that the command makes."""


class ReaderLeftError(OutputError):
    """Who read the standard output has left; the code is that of a command that ends by the signal for it."""

    exit_code: ClassVar[int] = 141


def print_line(text: str = "", *, file: Any = None, end: str = "\n") -> None:
    """Print a text at once. In another program's streams, what cannot be printed is dropped."""
    try:
        print(shown(text), file=file, end=end, flush=True)
    except OutputError:
        raise
    # Closed streams raise the latter.
    except (OSError, ValueError):
        pass


def print_error(text: str) -> None:
    """Print a text to the standard error."""
    print_line(text, file=sys.stderr)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Have the standard streams as this file describes them, while a command runs."""
    kept = sys.stdin, sys.stdout, sys.stderr
    _open_closed()
    sys.stdout = _stream(sys.stdout, may_be_lost=False)
    sys.stderr = _stream(sys.stderr, may_be_lost=True)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdin, sys.stdout, sys.stderr = kept


@contextlib.contextmanager
def output_may_be_lost() -> Iterator[None]:
    """Drop what the standard output does not take meanwhile: the product is in files."""
    kept = sys.stdout
    sys.stdout = _stream(kept, may_be_lost=True)
    try:
        yield
    finally:
        sys.stdout = kept


class _Stream(io.FileIO):
    """The bytes of a standard stream."""

    def __init__(self, descriptor: int, *, may_be_lost: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._may_be_lost = may_be_lost
        self._patience_s = _PATIENCE_S
        self._has_failed = False

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        # After an error nothing is tried again, such as what is still in a buffer when Python ends.
        if self._has_failed or (self._may_be_lost and not self._is_read()):
            return size
        try:
            # A pipe that is ready takes so much without waiting.
            written = super().write(data[: select.PIPE_BUF] if self._may_be_lost else data)
        except OSError as error:
            if not self._may_be_lost:
                self._has_failed = True
                raise _output_error(error) from error
            written = size
        if written is None:
            # It does not block, and is full.
            select.select([], [self], [])
            return 0
        return written

    def _is_read(self) -> bool:
        """Whether what is written is taken; of a reader that once kept us waiting, whether it is at once."""
        waiting = select.poll()
        waiting.register(self, select.POLLOUT)
        is_read = bool(waiting.poll(1000 * self._patience_s))
        self._patience_s = _PATIENCE_S if is_read else 0.0
        return is_read


def _output_error(error: OSError) -> OutputError:
    kind = ReaderLeftError if error.errno == errno.EPIPE else OutputError
    return kind(f"the standard output must be writable, got '{error.strerror}'.")


def _stream(stream: Any, *, may_be_lost: bool) -> Any:
    """The same stream with other manners; that of a notebook or a test stays as it is."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    # A terminal that lacks a letter shows another one.
    try:
        stream.flush()
        raw = _Stream(stream.fileno(), may_be_lost=may_be_lost)
    except (OSError, ValueError):
        stream.reconfigure(errors="replace")
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        stream.encoding,
        "replace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _open_closed() -> None:
    """Open what was closed when this process began: else the next file would get its number."""
    closed = [(number, name) for number, name in enumerate(_NAMES) if getattr(sys, name) is None]
    free = [number for number, _ in closed if _is_free(number)]
    for number in free:
        # To be read alone: writing fails, as it must.
        null = os.open(os.devnull, os.O_RDONLY)
        if null == number:
            os.set_inheritable(number, True)
        else:
            os.dup2(null, number)
            os.close(null)
    for number, name in closed:
        # Where another file has the number by now, nothing is written into it.
        descriptor = number if number in free else os.open(os.devnull, os.O_RDWR)
        setattr(sys, name, open(descriptor, "w" if number else "r", closefd=False))  # noqa: SIM115


def _is_free(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False
