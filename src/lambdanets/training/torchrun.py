"""What torchrun tells the processes it starts, and what they owe it; without torch."""

import contextlib
import ctypes
import os
import signal
from typing import Final

# Of Linux: which signal a process gets when the one that started it dies.
_SET_DEATH_SIGNAL: Final = 1


def process_rank() -> int:
    """The number of this process over all machines; 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """The number of this process on its machine; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """How many processes work together; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def num_restarts() -> int:
    """How often torchrun has started its processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def die_with_parent() -> None:
    """Have this process asked to stop when torchrun is killed: it would go on without anyone to watch it."""
    # Other systems have no such call.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
