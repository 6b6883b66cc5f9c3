"""How every program here measures: calls in turns, medians with the extremes, and the origin."""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any, Final, ParamSpec, TypeVar

import torch

Call = Callable[[], object]
# What goes into a result file.
Result = dict[str, Any]

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

# A slow call is timed as often as fits its seconds, but never fewer times than this.
FEWEST: Final = 3
# A call longer than this is timed once on a GPU.
LONG_SECONDS: Final = 1.0
# Larger than the L2 cache of any GPU.
FLUSHED_BYTES: Final = 256 << 20

PACKAGES: Final = ("lambda-networks", "timm", "triton", "numpy", "torchvision", "pillow")


class Clock:
    """Times calls side by side: events on a GPU, the wall clock elsewhere.

    Args:
        device: Where the calls compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.is_cuda = torch.device(device).type == "cuda"
        self.scratch = torch.empty(FLUSHED_BYTES if self.is_cuda else 0, dtype=torch.uint8, device=device)

    def race(
        self,
        calls: Mapping[str, Call],
        repeats: int,
        *,
        seconds: float = float("inf"),
        is_warm: bool = False,
        cut_off_after: float | None = None,
    ) -> dict[str, Result]:
        """Milliseconds of each call, in turns: A B A B.

        Args:
            calls: By name.
            repeats: Times of each call.
            seconds: A call whose repeats would take longer is timed less often, and leaves the later turns.
            is_warm: Count the first call too, in place of taking it for the warm-up (not on a GPU).
            cut_off_after: Seconds after which a call is given up. A call that fails then leaves its
                reason, and the others go on. By default errors are raised.
        """
        rows: dict[str, Result] = {}
        wanted: dict[str, int] = {}
        times: dict[str, list[Callable[[], float]]] = {}
        for name, call in calls.items():
            try:
                with cut_off(cut_off_after):
                    first = self._first(call)
            except Exception as error:
                if cut_off_after is None:
                    raise
                rows[name] = {"failed": reason(error)}
                continue
            times[name] = [lambda first=first: 1e3 * first] if is_warm and not self.is_cuda else []
            fit = int(min(seconds / max(first, 1e-6), repeats))
            is_long = self.is_cuda and first > LONG_SECONDS
            wanted[name] = 1 if is_long else max(fit, min(repeats, FEWEST))
        while any(len(times[name]) < count for name, count in wanted.items()):
            for name, count in wanted.items():
                if len(times[name]) < count:
                    times[name].append(self._start(calls[name]))
        self.wait()
        return {name: rows.get(name) or summary([one() for one in times[name]]) for name in calls}

    def _first(self, call: Call) -> float:
        """Seconds of a call, on a GPU after the calls that compile it."""
        took = self.seconds(call)
        if self.is_cuda:
            took = self.seconds(call)
        return took if not self.is_cuda or took > LONG_SECONDS else self.seconds(call)

    def _start(self, call: Call) -> Callable[[], float]:
        """Run once, on a GPU with a cold L2 cache; the milliseconds are known when the device is done."""
        if not self.is_cuda:
            took = 1e3 * self.seconds(call)
            return lambda: took
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.scratch.fill_(1)
        before.record()
        call()
        after.record()
        return lambda: before.elapsed_time(after)

    def seconds(self, call: Call) -> float:
        """Seconds of one call, by the wall clock, until the device is done."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def peak_bytes(self, call: Call) -> int | None:
        """The device's memory at the peak of a call less what was in use before it; None without a GPU."""
        if not self.is_cuda:
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        self.wait()
        return torch.cuda.max_memory_allocated() - before

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.is_cuda:
            torch.cuda.synchronize()


def race(calls: Mapping[str, Call], repeats: int, **options: Any) -> dict[str, Result]:
    """`Clock.race` on the CPU."""
    return Clock().race(calls, repeats, **options)


def rounds(calls: Mapping[str, Callable[[int], float]], count: int) -> list[dict[str, float]]:
    """What calls return for the number of each round, in turns; the first round warms up and is left out."""
    return [{name: call(number) for name, call in calls.items()} for number in range(count + 1)][1:]


def summary(times_ms: Sequence[float]) -> Result:
    """Median, smallest and largest milliseconds, and how many."""
    return {f"{name}_ms": value for name, value in spread(times_ms).items()} | {"repeats": len(times_ms)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show_time(row: Result) -> str:
    """Median, smallest, largest and how many, in words."""
    if "failed" in row:
        return row["failed"]
    between = f"({row['min_ms']:.1f} to {row['max_ms']:.1f}, {row['repeats']}x)"
    return f"{row['median_ms']:9.1f} ms {between:<26}"


def reason(error: BaseException, longest: int = 300) -> str:
    """Kind and message of an error, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:longest]}"


@contextlib.contextmanager
def cut_off(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in the main thread after so many seconds; may stand inside another one."""
    if seconds is None:
        yield
        return
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


def fresh(
    function: Callable[Parameters, Returned], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Returned:
    """Call a function of a module in a process of its own.

    The process is forked from a small server that has imported torch and nothing else, which saves seconds
    and, unlike a process started by this one, does not inherit this one's peak memory.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "lambdanets"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


def extra_bytes(warm_up: Call, call: Call) -> int:
    """Peak resident memory of a call less what was resident right before it (Linux).

    A product and a small call come first, so that starting torch's libraries does not count.
    """
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    warm_up()
    before = begin_peak()
    call()
    return peak_bytes() - before


def begin_peak() -> int:
    """Let the kernel's record of the peak begin anew; returns the resident bytes (Linux).

    So that making the layer is no part of the peak.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])


def peak_bytes() -> int:
    """Peak resident memory of this process since `begin_peak`."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def command_line(description: str | None, **defaults: int) -> argparse.ArgumentParser:
    """A parser with `--out`, `--threads` and one integer option for each default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"threads": 2, **defaults}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path, help="result file")
    return parser


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """The option `--shapes`, to be read by `shapes.named`."""
    help_text = "parts of names, such as r23 or 28x28"
    parser.add_argument("--shapes", nargs="+", default=[""], metavar="PART", help=help_text)


class ResultFile:
    """A JSON file that begins with its origin and is written anew, whole, whenever something is added.

    Args:
        path: Where; without one nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.content = path, {"origin": origin()}

    def add(self, **values: object) -> None:
        """Set entries."""
        self.content |= values
        self.save()

    def save(self) -> None:
        """Write the file whole or not at all."""
        if self.path:
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self.content, indent=1, default=str) + "\n")
            partial.replace(self.path)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        # A copy of the files alone, or no git.
        return os.environ.get("COMMIT", "unknown")
    return done.stdout.strip()


# Read at the start: later the files may have changed.
COMMIT: Final = _commit()


def origin() -> dict[str, str]:
    """Date, commit, machine, versions and command of a result."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": COMMIT,
        "machine": f"{platform.machine()}, {_processor()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in PACKAGES},
        "threads": str(torch.get_num_threads()),
        "command": " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *_without_paths(sys.argv[1:])]),
    }


def _without_paths(argv: list[str]) -> list[str]:
    """The arguments less `--out FILE`, which may be a place on somebody's machine."""
    is_value = [False, *(argument == "--out" for argument in argv)]
    return [
        argument
        for argument, skipped in zip(argv, is_value, strict=False)
        if not skipped and not argument.startswith("--out")
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
