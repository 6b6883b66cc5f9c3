"""The one way to wait for other processes and threads: with a limit, an ear for a stop, and their errors."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from lambdanets.errors import StoppedError

T = TypeVar("T")

# Seconds from one look at the time and at the request to stop to the next.
_LOOK_S: Final = 2.0
# Seconds that what is nearly there still has after a request to stop: a run then stops at its next step.
_GRACE_S: Final = 2.0


def _never() -> bool:
    return False


# Whether the program was asked to stop, for all that waits within `stoppable`.
_stop_requested: ContextVar[Callable[[], bool]] = ContextVar("stop_requested", default=_never)

# Threads of calls that did not return when they were given up.
_given_up: list[threading.Thread] = []


@contextmanager
def stoppable(stop_requested: Callable[[], bool]) -> Iterator[None]:
    """End waits within the block by a `StoppedError`, within 4 s, once `stop_requested` is true."""
    token = _stop_requested.set(stop_requested)
    try:
        yield
    finally:
        _stop_requested.reset(token)


def wait_until(ready: Callable[[float], object], limit_s: float, late: Callable[[], Exception]) -> None:
    """Wait until something is there, at most for a time, and no longer than a request to stop allows.

    Args:
        ready: Waits at most so many seconds, and says whether it is there.
        limit_s: Longest time, in seconds.
        late: Gives the error that is raised when it is over.

    Raises:
        StoppedError: The program was asked to stop, and nothing came within 4 s.
        Exception: What `late` gives.
    """
    stop_requested, is_asked = _stop_requested.get(), False
    end = time.monotonic() + limit_s
    while not ready(max(0.0, min(_LOOK_S, end - time.monotonic()))):
        now = time.monotonic()
        if now >= end:
            raise StoppedError("stopped while it waited.") if is_asked else late()
        if not is_asked and stop_requested():
            is_asked, end = True, now + _GRACE_S


def wait_for(future: "Future[T]", limit_s: float, late: Callable[[], Exception]) -> T:
    """Wait for the result of another thread or process, as `wait_until`; its error is raised as it is."""
    if not future.done():
        there = threading.Event()
        future.add_done_callback(lambda _: there.set())
        wait_until(there.wait, limit_s, late)
    return future.result()


class Beside:
    """A thread that makes calls one after another, so that one that never returns can be given up."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="beside", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], T]) -> "Future[T]":
        """Have a function called."""
        future: Future[T] = Future()
        self._calls.put((future, function))
        return future

    def close(self) -> None:
        """End the thread after the call under way, if that returns within 2 s; else give it up."""
        self._calls.put(None)
        self._thread.join(_GRACE_S)
        if self._thread.is_alive():
            _given_up.append(self._thread)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            # A batch is held by who waits for it alone.
            del call, future, function


def has_given_up() -> bool:
    """Say if a call that was given up still runs: the program must leave without waiting for it."""
    return any(thread.is_alive() for thread in _given_up)
