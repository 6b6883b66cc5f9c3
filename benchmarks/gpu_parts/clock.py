"""Timing on a device: events on a GPU, the wall clock elsewhere; calls in turns, caches cold."""

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

Call = Callable[[], object]

# Milliseconds and how many; or why there are none.
Row = dict[str, Any]

# More than the L2 cache of any GPU.
FLUSHED_BYTES = 256 << 20
FEWEST, MOST = 3, 100
# A call longer than this is timed once, and one that is not warm by then is given up.
LONG_SECONDS, LONGEST_SECONDS = 1.0, 30.0


class Clock:
    """Times calls side by side.

    Args:
        device: Where the calls work.
        seconds: Of the repeats of one call.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds
        self.is_cuda = device.type == "cuda"
        self.scratch = torch.empty(FLUSHED_BYTES // 4 if self.is_cuda else 1024, device=device)

    def race(
        self, calls: Mapping[str, Call], *, cold: bool = True, seconds: float | None = None
    ) -> dict[str, Row]:
        """Median, 20 % and 80 % of each call, in turns: A B A B.

        A call that fails leaves its reason, and the others run on.

        Args:
            calls: By name.
            cold: Whether the L2 cache is overwritten before each call.
            seconds: Of the repeats of one call, if not the usual ones.
        """
        rows: dict[str, Row] = {}
        wanted: dict[str, int] = {}
        for name, call in calls.items():
            try:
                with cut_off(LONGEST_SECONDS):
                    wanted[name] = self._repeats(call, seconds or self.seconds)
            except Exception as error:
                rows[name] = {"failed": reason(error)}
            if name in rows:
                self.forget()
        taken: dict[str, list[Callable[[], float]]] = {name: [] for name in wanted}
        try:
            for turn in range(max(wanted.values(), default=0)):
                for name, count in wanted.items():
                    if turn < count:
                        taken[name].append(self._start(calls[name], cold=cold))
        except Exception as error:
            rows |= {name: {"failed": reason(error)} for name, row in taken.items() if not row}
        self.wait()
        rows |= {name: summary([one() for one in row]) for name, row in taken.items() if row}
        return {name: rows[name] for name in calls}

    def _repeats(self, call: Call, seconds: float) -> int:
        """How many fit the seconds, after two calls to get warm."""
        first = self.seconds_of(call)
        if first > LONG_SECONDS and self.seconds_of(call) > LONG_SECONDS:
            return 1
        self.seconds_of(call)
        return max(FEWEST, min(MOST, int(seconds / max(self.seconds_of(call), 1e-6))))

    def _start(self, call: Call, *, cold: bool) -> Callable[[], float]:
        """Run once; the milliseconds are known when the device is done."""
        if not self.is_cuda:
            start = time.perf_counter()
            call()
            took = 1e3 * (time.perf_counter() - start)
            return lambda: took
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if cold:
            self.scratch.fill_(1.0)
        before.record()
        call()
        after.record()
        return lambda: before.elapsed_time(after)

    def seconds_of(self, call: Call) -> float:
        """By the wall clock, until the device is done."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def peak_bytes(self, call: Call) -> int | None:
        """Memory in use at the peak of a call, less what was in use before it; None without a GPU."""
        if not self.is_cuda:
            call()
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        self.wait()
        return torch.cuda.max_memory_allocated() - before

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.is_cuda:
            torch.cuda.synchronize()

    def forget(self) -> None:
        """Give unused memory back."""
        if self.is_cuda:
            torch.cuda.empty_cache()


def summary(times_ms: list[float]) -> Row:
    """Median, 20 %, 80 %, and how many."""
    ordered = sorted(times_ms)
    last = len(ordered) - 1
    return {
        "median_ms": statistics.median(ordered),
        "p20_ms": ordered[round(0.2 * last)],
        "p80_ms": ordered[round(0.8 * last)],
        "repeats": len(ordered),
    }


def reason(error: BaseException, longest: int = 300) -> str:
    """What went wrong, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:longest]}"


@contextmanager
def cut_off(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after so many seconds; may stand in another one."""
    start, outer = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)[0]
    seconds = max(0.1, min(seconds, outer or seconds))

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"cut off after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(0.1, outer - (time.monotonic() - start)))


def captured(call: Call) -> Call:
    """The call from a CUDA graph, where one can be captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def graphs(calls: Mapping[str, Call], notes: dict[str, Any]) -> dict[str, Call]:
    """Each call captured; a note where it cannot be."""
    found = {}
    for name, call in calls.items():
        try:
            found[name] = captured(call)
        except Exception as error:
            notes[f"graph of {name}"] = f"failed: {reason(error)}"
    return found
