"""What becomes of a file: every kind of damage, and a limit of time for what reads it."""

import os
import signal
from contextlib import contextmanager


def _replaced(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


def _rewritten(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def flipped(content, place):
    """The bytes with one bit changed, at a fraction of their length."""
    changed = bytearray(content)
    changed[int(place * len(changed))] ^= 4
    return bytes(changed)


DAMAGES = {
    "pipe": _replaced(os.mkfifo),
    "device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "itself": _replaced(lambda path: path.symlink_to(path)),
    "folder": _replaced(lambda path: path.mkdir()),
    "empty": _rewritten(lambda old: b""),
    "deep": _rewritten(lambda old: b"[" * 100_000),
    "binary": _rewritten(lambda old: bytes(range(256)) * 40),
    "huge": lambda path: os.truncate(path, 2**36),
    "latin": _rewritten(lambda old: old[: len(old) // 2] + b"\xe9" + old[len(old) // 2 :]),
    "cut": _rewritten(lambda old: old[: len(old) // 2]),
    **{f"bit {place}": _rewritten(lambda old, place=place: flipped(old, place)) for place in (0.1, 0.5, 0.9)},
}


class TooLongError(Exception):
    """A command has waited."""


@contextmanager
def within(seconds):
    """Raise in what takes longer."""

    def late(*_):
        raise TooLongError(f"longer than {seconds} s")

    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
