"""Child processes that end with their parent, however it ends."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from lambdanets.errors import StoppedError
from lambdanets.variables import PARENT, read_parent

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.process import BaseProcess

# Linux's prctl option: which signal a process gets when its parent dies.
_SET_DEATH_SIGNAL: Final = 1

# What asks a program to stop; a closed terminal (SIGHUP) does so too.
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)

# Seconds for a child that was asked to stop to finish its step and to save.
_GRACE_S: Final = 60.0


def die_with_parent(parent: int | None = None, number: int = signal.SIGTERM) -> None:
    """Have this process asked to stop when its parent dies, be it by SIGKILL.

    Only Linux has such a signal.

    Args:
        parent: Number of the parent, where it is known: if it is gone already, this process leaves at once.
            None: as the variable `PARENT` says, if it is there.
        number: The signal.

    Raises:
        StoppedError: The parent that the variable names is gone.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, number)
    expected = read_parent() if parent is None else parent
    # It died between the start of this process and the call above, which therefore has no effect.
    if expected and os.getppid() != expected:
        if parent is None:
            raise StoppedError(
                f"stopped: process {expected}, which started this one by {PARENT}, has ended. If it never"
                f" did: unset {PARENT}"
            )
        sys.exit(StoppedError.exit_code)


@contextlib.contextmanager
def worker_pool(
    num: int, what: str, initializer: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()
) -> "Iterator[ProcessPoolExecutor]":
    """Run jobs in new processes, none of which is left behind.

    Leaving by an error, by Ctrl-C, SIGTERM or a closed terminal drops the jobs that wait and asks the others
    to stop (SIGTERM); what has not ended a minute later, or at a second Ctrl-C, is killed. If this process is
    killed, the system asks its children to stop.

    Args:
        num: Number of processes.
        what: What becomes of the work when a signal ends it, for the message.
        initializer: Called in each process.
        arguments: Its arguments.

    Raises:
        StoppedError: SIGTERM or SIGHUP came.
    """
    # Commands without children need neither.
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    others = {*multiprocessing.active_children()}
    with _stopped_by_signals(what):
        # Spawned: torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(num, context, _start_child, (os.getpid(), initializer, arguments))
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end({*multiprocessing.active_children()} - others, asking=True)
            raise
        pool.shutdown(wait=False)
        _end({*multiprocessing.active_children()} - others, asking=False)


def _start_child(parent: int, initializer: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    # A terminal's Ctrl-C reaches every process; the parent passes it on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    if initializer is not None:
        initializer(*arguments)


@contextlib.contextmanager
def _stopped_by_signals(what: str) -> Iterator[None]:
    """Raise a `StoppedError` at SIGTERM and SIGHUP, in the main thread."""
    from multiprocessing import resource_tracker

    def stop(number: int, frame: FrameType | None) -> None:
        # Once: what follows cleans up.
        for one in taken:
            signal.signal(one, signal.SIG_IGN)
        raise StoppedError(f"stopped by {signal.Signals(number).name}; {what}")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Python's own helper outlives a closed terminal only if it starts with this signal ignored.
    resource_tracker.ensure_running()
    signal.signal(signal.SIGHUP, hung_up)
    # nohup has SIGHUP ignored, and it stays so.
    taken = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(children: "set[BaseProcess]", *, asking: bool) -> None:
    """Wait for children to end, after asking them to (SIGTERM) if need be, and kill what does not."""
    try:
        for child in children:
            if asking:
                child.terminate()
            # One that is stopped would not hear of it.
            if child.pid and child.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGCONT)
        deadline = time.monotonic() + _GRACE_S
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
    finally:
        # Also at a second Ctrl-C.
        for child in children:
            child.kill()
