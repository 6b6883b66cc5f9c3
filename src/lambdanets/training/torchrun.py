"""torchrun: its agent, what it tells the processes it starts, and the signals that ask them to stop."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final

from lambdanets.errors import StoppedError
from lambdanets.processes import STOP_SIGNALS
from lambdanets.variables import PARENT, read_world

_OF_TERMINAL: Final = (signal.SIGINT, signal.SIGHUP)


def global_rank() -> int:
    """The number of this process over all machines; 0 without torchrun."""
    return read_world().rank


def local_rank() -> int:
    """The number of this process on its machine; 0 without torchrun."""
    return read_world().local_rank


def world_size() -> int:
    """How many processes work together; 1 without torchrun."""
    return read_world().size


def launch(argv: Sequence[str], num_processes: int, max_restarts: int = 0) -> int:
    """Run one command of `lambdanets` in several processes, as `torchrun --standalone` does.

    When one dies, all are started again, `max_restarts` times. Returns 0, or the exit code of the process
    that failed first; 75 when asked to stop.
    """
    # Who only asks for the rank needs no torch.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=f"lambdanets-{num_processes}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=max_restarts,
        # Seconds between two checks of the processes; also how long the others outlive one that has died.
        monitor_interval=0.1,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    )
    os.environ[PARENT] = str(os.getpid())
    try:
        elastic_launch(config, sys.executable)("-m", "lambdanets", *argv)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    except SignalException as error:
        return StoppedError.exit_code if error.sigval in STOP_SIGNALS else 128 + int(error.sigval)
    finally:
        # For the children alone: this process may run other commands.
        del os.environ[PARENT]
    return 0


class StopRequest:
    """A request to stop the run, which then finishes its step, saves and leaves.

    Attributes:
        received: The signal's name, None until one comes.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.received is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Take SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C as a request; a second Ctrl-C leaves at once."""
        # Only the main thread may change what a signal does.
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        # Those of a terminal stay ignored where they are: by nohup, in a shell's background, or as a parent
        # passes them on.
        taken = [
            one for one in STOP_SIGNALS if one not in _OF_TERMINAL or signal.getsignal(one) != signal.SIG_IGN
        ]
        before = {number: signal.signal(number, self._receive) for number in taken}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
