"""Start several processes of one command on this machine, by torchrun's agent."""

import signal
import sys
from collections.abc import Sequence
from typing import Final

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lambdanets.errors import StoppedError

# Seconds between two checks of the processes; also how long the others outlive one that has died.
_WATCH: Final = 0.1


def launch(argv: Sequence[str], num_processes: int, max_restarts: int = 0) -> int:
    """Run one command of `lambdanets` in several processes, as `torchrun --standalone` does.

    Args:
        argv: The command and its arguments.
        num_processes: Number of processes.
        max_restarts: How often all are started again after one has died.

    Returns:
        0, or the exit code of the process that failed first; 75 when asked to stop.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=f"lambdanets-{num_processes}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=max_restarts,
        monitor_interval=_WATCH,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "lambdanets", *argv)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    except SignalException as error:
        if error.sigval in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            return StoppedError.exit_code
        return 128 + int(error.sigval)
    return 0
