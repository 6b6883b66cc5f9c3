"""Standard streams that are closed, full, slow or gone: what becomes of a command, and of what it prints."""

import contextlib
import io
import os
import pty
import sys
import time

import pytest

from lambdanets import streams
from lambdanets.cli import run
from lambdanets.streams import OutputError, ReaderLeftError, output_may_be_lost, print_line, standard_streams


@contextlib.contextmanager
def instead_of_stdout(descriptor):
    """Python's own standard output on another file."""
    kept = sys.stdout
    sys.stdout = io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), "utf-8", write_through=True)
    try:
        yield
    finally:
        sys.stdout = kept


def full():
    return os.open("/dev/full", os.O_WRONLY)


def left():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed():
    return os.open(os.devnull, os.O_RDONLY)


def gone_terminal():
    master, terminal = pty.openpty()
    os.close(master)
    return terminal


BROKEN = [
    (full, OutputError, "No space left on device", 7),
    (left, ReaderLeftError, "Broken pipe", 141),
    (closed, OutputError, "Bad file descriptor", 7),
    (gone_terminal, OutputError, "Input/output error", 7),
]
broken = pytest.mark.parametrize(
    ("make", "kind", "reason", "code"), BROKEN, ids=lambda one: getattr(one, "__name__", "")
)


@broken
@pytest.mark.parametrize("text", ["a", "a" * 100_000], ids=["short", "long"])
def test_what_is_all_that_a_command_makes_is_an_error(make, kind, reason, code, text):
    with instead_of_stdout(make()), standard_streams():
        with pytest.raises(
            kind, match=rf"^the standard output must be writable, got '{reason}'\.$"
        ) as caught:
            print_line(text)
        assert caught.value.exit_code == code
        # Nothing is left that fails once more at the end.
        print_line("more")
        sys.stdout.flush()


@broken
def test_a_training_goes_on(make, kind, reason, code):
    with instead_of_stdout(make()), standard_streams():
        with output_may_be_lost():
            for _ in range(3):
                print_line("a" * 10_000)
        with pytest.raises(kind):
            print_line("strict again")


@broken
def test_the_standard_error_is_no_reason_to_stop(make, kind, reason, code, monkeypatch):
    with instead_of_stdout(make()):
        monkeypatch.setattr(sys, "stderr", sys.stdout)
    # Its code is that of a usage error, though nobody reads what it says.
    assert run(["no-such-command", "x" * 10_000]) == 2


def test_a_disk_that_has_room_again_gets_what_comes_then(tmp_path):
    target = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    with instead_of_stdout(target), standard_streams(), output_may_be_lost():
        descriptor = sys.stdout.fileno()
        kept = os.dup(descriptor)
        os.dup2(full(), descriptor)
        print_line("lost")
        os.dup2(kept, descriptor)
        print_line("kept")
    assert (tmp_path / "out").read_text() == "kept\n"


def test_a_reader_that_does_not_read_holds_a_training_up_once(monkeypatch):
    monkeypatch.setattr(streams, "_PATIENCE_S", 0.05)
    reader, writer = os.pipe()
    begun = time.monotonic()
    with instead_of_stdout(writer), standard_streams(), output_may_be_lost():
        for _ in range(50):
            print_line("x" * 10_000)
    assert time.monotonic() - begun < 2
    assert os.read(reader, 10) == b"x" * 10


def test_all_comes_where_a_reader_reads(tmp_path):
    path = tmp_path / "out"
    with instead_of_stdout(os.open(path, os.O_WRONLY | os.O_CREAT)), standard_streams():
        print_line("ü " * 50_000)
        with output_may_be_lost():
            print_line("b" * 50_000)
        print_line("\x1b[2J", end="")
    assert path.read_text() == "ü " * 50_000 + "\n" + "b" * 50_000 + "\n" + r"\x1b[2J"


def test_streams_of_others_stay_and_lose_what_they_do_not_take(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError("gone")

    for stream in (Gone(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        with output_may_be_lost():
            assert sys.stdout is stream
            print_line("lost")
