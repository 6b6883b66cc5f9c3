"""Peak resident memory of one call, in a fresh process (Linux)."""

import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def fresh(function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """Call a function of a module in a process of its own.

    The processes are forked from a small server that has imported torch and nothing else, which saves
    seconds each and, unlike processes started by this one, does not hand on this one's peak memory.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "lambdanets"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def extra_bytes(warm_up: Callable[[], object], call: Callable[[], object]) -> int:
    """Peak resident memory of a call less what was resident right before it.

    Before that come a product and a small call, so that starting torch's libraries does not count.
    """
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    warm_up()
    _forget_peak()
    before = _resident_bytes()
    call()
    return _peak_bytes() - before


def _resident_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _forget_peak() -> None:
    """Let the peak begin anew, so that making the layer is no part of it."""
    Path("/proc/self/clear_refs").write_text("5")
