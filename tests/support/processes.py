"""Several processes of one test, joined as torchrun joins them; forked, so that torch is not loaded again."""

import contextlib
import multiprocessing
import os
import pickle
import socket
import traceback

import torch

from lambdanets.training.config import ExecConfig
from lambdanets.training.distributed import init_distributed

LIMIT_S = 60


def run_ranks(function, size, *arguments):
    """What `function(ctx, *arguments)` returns in each process, by rank; the error of any of them."""
    context = multiprocessing.get_context("fork")
    port = free_port()
    receivers, children = [], []
    for rank in range(size):
        receiver, sender = context.Pipe(duplex=False)
        arguments_of_rank = (function, rank, size, port, sender, arguments)
        child = context.Process(target=_run_rank, args=arguments_of_rank, daemon=True)
        child.start()
        # Held by the child alone: when it dies, the receiver sees the end.
        sender.close()
        receivers.append(receiver)
        children.append(child)
    try:
        results = [_received(receiver, child) for receiver, child in zip(receivers, children, strict=True)]
    finally:
        for child in children:
            child.kill()
            child.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _run_rank(function, rank, size, port, sender, arguments):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        with init_distributed(ExecConfig(device="cpu", timeout_s=LIMIT_S / 2)) as ctx:
            result = function(ctx, *arguments)
    except BaseException as error:
        error.add_note(f"in process {rank}:\n{traceback.format_exc()}")
        result = error
    # Not through torch's pickler: it would share memory that goes with the process.
    sender.send_bytes(pickle.dumps(result))
    # Without the clean-up of the process that was forked.
    os._exit(0)


def _received(receiver, child):
    if not receiver.poll(LIMIT_S):
        return TimeoutError(f"process {child.pid} gave nothing in {LIMIT_S} s")
    with contextlib.suppress(EOFError):
        return pickle.loads(receiver.recv_bytes())
    return ChildProcessError(f"process {child.pid} died with {child.exitcode}")
