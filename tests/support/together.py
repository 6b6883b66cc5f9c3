"""Processes of one run as threads that wait for one another's sums."""

import threading
from concurrent.futures import ThreadPoolExecutor


def run_together(parts):
    """Call each part with its `add_up`; give what each returned, or the error it raised."""
    barrier = threading.Barrier(len(parts))
    given = [None] * len(parts)

    def run(rank):
        def add_up(tensor):
            given[rank] = tensor
            barrier.wait(timeout=60)
            total = sum(given)
            barrier.wait(timeout=60)
            return total

        try:
            return parts[rank](add_up)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(run, range(len(parts))))
