"""Where batches are made, what is said when a process that reads images dies, and what its errors become."""

import os
import signal
import threading

import pytest
import torch
from torch.utils.data import DataLoader

from lambdanets.errors import DataError
from lambdanets.recipes import get_recipe
from lambdanets.runs.tasks import load_task
from lambdanets.training.loader import load_batches
from support.training import TinyData

CALLS = [(0, torch.arange(4)), (0, torch.arange(4, 8))]


class Deadly(TinyData):
    """The process that reads the second batch is killed."""

    def batch(self, epoch, indices):
        if indices[0] == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(epoch, indices)


class Faulty(TinyData):
    def batch(self, epoch, indices):
        raise RuntimeError("planted")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_where_its_batch_is_waited_for():
    before = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(DataError, match=r"must live, got '.*'\. It was .* use fewer with --exec\.num-w"):
        list(load_batches(Deadly(), CALLS, num_workers=1))
    # Torch's own would interrupt whatever runs at that moment.
    assert signal.getsignal(signal.SIGCHLD) is before


@pytest.mark.parametrize("error", [ConnectionResetError, EOFError, FileNotFoundError])
def test_it_may_die_while_it_hands_a_batch_over(monkeypatch, error):
    def broken(loader):
        raise error("planted")
        yield

    monkeypatch.setattr(DataLoader, "__iter__", broken)
    with pytest.raises(DataError, match="a process that reads images must live, got 'planted'"):
        next(load_batches(TinyData(), CALLS, num_workers=1))


def test_an_error_in_a_worker_that_lives_is_shown_as_it_is():
    with pytest.raises(RuntimeError, match=r"Caught RuntimeError in DataLoader worker(.|\n)*planted"):
        next(load_batches(Faulty(), CALLS, num_workers=1))


def test_only_what_may_be_waited_for_is_made_by_another_thread():
    class Watched(TinyData):
        in_memory = False

        def batch(self, epoch, indices):
            makers.append(threading.current_thread())
            return super().batch(epoch, indices)

    makers = []
    read = list(load_batches(Watched(), CALLS))
    assert threading.current_thread() not in makers
    Watched.in_memory = True
    for batch, other in zip(load_batches(Watched(), CALLS), read, strict=True):
        assert torch.equal(batch.images, other.images)
    assert makers[2:] == [threading.current_thread()] * 2
    task = load_task(get_recipe("digits"))
    assert task.train.in_memory and task.test.in_memory
