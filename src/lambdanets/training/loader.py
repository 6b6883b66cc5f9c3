"""Batches on their way to the model: made by worker processes, in a given order."""

import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from lambdanets.data.task import Batch, TestData, TrainingData, identity
from lambdanets.errors import DataError
from lambdanets.training.distributed import ALONE, DistributedContext

# More images at once are no faster on a processor core, and this many fit anywhere.
TEST_BATCH = 250

Call = tuple[Any, ...]


def test_batches(
    data: TestData, size: int = TEST_BATCH, *, ctx: DistributedContext = ALONE, num_workers: int = 0
) -> Iterator[Batch]:
    """Give each image once, in stored order, `size` at a time.

    Of n processes each takes every n-th image; no shard is padded with repeated ones.
    """
    indices = torch.arange(len(data))[ctx.rank :: ctx.size]
    return load_batches(data, [(part,) for part in indices.split(size) if len(part)], num_workers)


def load_batches(
    data: TrainingData | TestData, calls: Iterable[Call], num_workers: int = 0
) -> Iterator[Batch]:
    """Give the batch of each call, in their order, however many workers there are.

    Args:
        data: What to train on or to judge by.
        calls: Arguments of `data.batch`, read a few ahead of the batches, so that workers never wait at the
            end of an epoch.
        num_workers: Processes beside this one; 0: none.

    Raises:
        DataError: A file cannot be read where none may stand in for it, or a worker was killed.
    """
    if num_workers == 0:
        yield from (data.batch(*call) for call in calls)
        return
    loader: DataLoader[Any] = DataLoader(
        _Calls(data),
        sampler=calls,
        batch_size=None,
        collate_fn=identity,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )
    # Torch would raise the death of a worker wherever the program happens to be, in the middle of an update
    # too. Without its handler the death is noticed where a batch is waited for.
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            # A worker may die while it hands a batch over, which is no RuntimeError.
            is_death = "DataLoader worker" in str(error) or not isinstance(error, RuntimeError)
            # So torch begins what a worker that lives has met.
            if str(error).startswith("Caught ") or not is_death:
                raise
            raise DataError(
                f"train: a process that reads images must live, got '{error}'. It was probably killed for"
                " memory: use fewer with --exec.num-workers."
            ) from error
        if isinstance(batch, Exception):
            raise batch
        yield batch


class _Calls(Dataset[Any]):
    """One item is one call of `batch`: a worker makes a whole batch."""

    def __init__(self, data: TrainingData | TestData) -> None:
        self._data = data

    def __getitem__(self, call: Call) -> Batch | Exception:
        # An error goes back as it is: torch would wrap it in the text of its traceback.
        try:
            return self._data.batch(*call)
        except (DataError, OSError) as error:
            return error
