"""Stopping when asked: the step under way is finished, then the run saves and leaves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOP: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Whether someone has asked the run to stop.

    Attributes:
        received: The signal's name, None until one comes.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.received is not None

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take SIGTERM, SIGUSR1 and the first Ctrl-C as a request; the second Ctrl-C leaves at once."""
        # Only the main thread may change what a signal does.
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._receive) for number in _STOP}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
