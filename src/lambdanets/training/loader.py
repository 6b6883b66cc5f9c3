"""Batches on their way to the model: made by worker processes, in a given order."""

import functools
import multiprocessing
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any, Final

import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lambdanets.data.task import Batch, TestData, TrainingData, identity
from lambdanets.errors import DataError, first_line
from lambdanets.processes import STOP_SIGNALS, die_with_parent
from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import ALONE, DistributedContext
from lambdanets.waiting import Beside, wait_for

# More images at once are no faster on a processor core, and this many fit anywhere.
TEST_BATCH = 250

# Longest time to wait for a batch where no run says another.
_LIMIT_S: Final = ExecConfig().batch_limit_s

# What the system says where a process may open no more.
_OPEN_FILES: Final = "open files"

Call = tuple[Any, ...]


def test_batches(
    data: TestData,
    size: int = TEST_BATCH,
    *,
    ctx: DistributedContext = ALONE,
    num_workers: int = 0,
    limit_s: float = _LIMIT_S,
) -> Iterator[Batch]:
    """Give each image once, in stored order, `size` at a time.

    Of n processes each takes every n-th image; no shard is padded with repeated ones.
    """
    indices = torch.arange(len(data))[ctx.rank :: ctx.size]
    calls = [(part,) for part in indices.split(size) if len(part)]
    return load_batches(data, calls, num_workers, limit_s=limit_s)


def load_batches(
    data: TrainingData | TestData, calls: Iterable[Call], num_workers: int = 0, *, limit_s: float = _LIMIT_S
) -> Iterator[Batch]:
    """Give the batch of each call, in their order, however many workers there are.

    Batches are made in workers or in a thread beside, so that none is waited for without an end; here and now
    where the data say by `in_memory` that nothing is read.

    Args:
        data: What to train on or to judge by.
        calls: Arguments of `data.batch`, read a few ahead of the batches, so that workers never wait at the
            end of an epoch.
        num_workers: Processes beside this one; 0: none.
        limit_s: Longest time to wait for a batch, in seconds.

    Raises:
        DataError: A file cannot be read where none may stand in for it, a worker was killed or could not
            hand its batch over, or a batch did not come in time.
        StoppedError: The program was asked to stop, and no batch came within 4 s.
    """
    if num_workers == 0 and getattr(data, "in_memory", False):
        yield from (data.batch(*call) for call in calls)
        return
    others = {*multiprocessing.active_children()}
    if num_workers == 0:
        batches: Iterator[Any] = (data.batch(*call) for call in calls)
    else:
        batches = _start_workers(data, calls, num_workers)
    workers = {*multiprocessing.active_children()} - others
    beside, fetch = Beside(), functools.partial(next, batches, None)
    try:
        while (batch := _next_batch(beside.submit(fetch), limit_s, num_workers, workers)) is not None:
            yield batch
    finally:
        # They only read, and torch would wait for each that hangs.
        for worker in workers:
            worker.kill()
        beside.close()


def _start_workers(
    data: TrainingData | TestData, calls: Iterable[Call], num_workers: int
) -> Iterator[Batch | Exception]:
    """The batches of new processes; or an error, where one could not be made."""
    loader: DataLoader[Any] = DataLoader(
        _Calls(data),
        # As arrays: tensors would go through shared memory, where there may be no room.
        sampler=(tuple(one.numpy() if isinstance(one, Tensor) else one for one in call) for call in calls),
        batch_size=None,
        collate_fn=identity,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=functools.partial(_prepare_worker, os.getpid()),
    )
    # Torch would raise the death of a worker wherever the program happens to be, in the middle of an update
    # too. Without its handler the death is noticed where a batch is waited for.
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    # Its queues lie in shared memory too.
    except OSError as error:
        raise _not_handed_over(error) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            is_torchs = getattr(handler, "__module__", "").startswith("torch.")
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs or handler is None else handler)


def _next_batch(
    future: "Future[Any]", limit_s: float, num_workers: int, workers: Iterable[BaseProcess]
) -> Batch | None:
    """Wait for a batch; None after the last one."""
    try:
        batch = wait_for(future, limit_s, functools.partial(_late, limit_s, workers))
    except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
        # A worker may die while it hands a batch over, which is no RuntimeError.
        is_death = "DataLoader worker" in str(error) or not isinstance(error, RuntimeError)
        # So torch begins what a worker that lives has met.
        if not num_workers or str(error).startswith("Caught "):
            raise
        if _OPEN_FILES in str(error):
            raise _not_handed_over(error) from error
        if not is_death:
            raise
        raise DataError(
            f"load_batches: a process that reads images must live, got '{error}'. It was probably killed for"
            " memory: use fewer with --exec.num-workers."
        ) from error
    if isinstance(batch, Exception):
        raise batch
    return batch


def _late(limit_s: float, workers: Iterable[BaseProcess]) -> DataError:
    states = Counter(_state(worker) for worker in workers)
    told = (
        f"; processes that read: {', '.join(f'{n} {state}' for state, n in sorted(states.items()))}"
        if states
        else ""
    )
    return DataError(
        f"load_batches: a batch must come within {limit_s:g} s, got none{told}. The usual cause is a disk"
        " that does not answer or a process that was stopped; a run may wait longer with --exec.timeout-s."
    )


def _state(worker: BaseProcess) -> str:
    """The state of a process, as Linux knows it."""
    try:
        letter = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "unknown"
    return {"T": "stopped", "D": "waiting for a disk", "Z": "dead", "R": "at work"}.get(letter, "asleep")


def _not_handed_over(error: Exception) -> DataError:
    """The error where a batch cannot leave its worker: shared memory is full, or too many files are open."""
    advice = "use fewer --exec.num-workers (0: none)"
    if _OPEN_FILES in str(error):
        advice += ", or allow more: ulimit -n 65536"
    else:
        advice += " or smaller batches, or give a container more: docker run --shm-size 8g"
    return DataError(
        f"load_batches: batches must go through shared memory (/dev/shm), got '{first_line(error)}'. To"
        f" mend it, {advice}."
    )


def _prepare_worker(parent: int, number: int) -> None:
    """Let a worker live and end with its parent, and hand back why a batch cannot be handed over."""
    die_with_parent(parent, signal.SIGKILL)
    # What stops a run is sent to all its processes: the parent still needs a batch for its last step.
    for one in STOP_SIGNALS:
        signal.signal(one, signal.SIG_IGN)

    def hand_back(queue: Any, error: Exception, item: tuple[int, Any]) -> None:
        # Torch leaves the name of what it could not allocate.
        for name in re.findall(r"</(torch_\w+)>", str(error)):
            Path("/dev/shm", name).unlink(missing_ok=True)
        queue.put((item[0], _not_handed_over(error)))

    # The thread of a queue would print the error and drop the batch, for which the parent waits.
    Queue._on_queue_feeder_error = hand_back  # type: ignore[attr-defined]


class _Calls(Dataset[Any]):
    """One item is one call of `batch`: a worker makes a whole batch."""

    def __init__(self, data: TrainingData | TestData) -> None:
        self._data = data

    def __getitem__(self, call: Call) -> Batch | Exception:
        arguments: list[Any] = [torch.from_numpy(one) if isinstance(one, ndarray) else one for one in call]
        # An error goes back as it is: torch would wrap it in the text of its traceback.
        try:
            return self._data.batch(*arguments)
        except (DataError, OSError) as error:
            return error
