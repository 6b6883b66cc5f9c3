"""What threads do while they wait."""

import os


def keep_threads_asleep() -> None:
    """Let them give up their core; called before torch is loaded, when OpenMP reads it.

    One that spins while it waits costs a factor of 16 as soon as another process wants its core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
