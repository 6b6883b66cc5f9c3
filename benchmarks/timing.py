"""Timing functions side by side, and where a number comes from."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

# What goes into a result file.
Result = dict[str, Any]

# Times of a call that is slow: as many as fit its seconds, but never fewer.
FEWEST = 3

PACKAGES = ("lambda-networks", "timm", "triton", "numpy", "torchvision", "pillow")


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    seconds: float = float("inf"),
    is_warm: bool = False,
) -> dict[str, dict[str, float]]:
    """Median, smallest and largest milliseconds of each call and how many, in turns.

    Args:
        calls: By name.
        repeats: Times of each call.
        seconds: A call that would take longer in all is timed less often, and leaves the later turns.
        is_warm: Count the first turn too, instead of taking it for a warm-up.
    """
    first = {name: 1e3 * elapsed(call) for name, call in calls.items()}
    fit = {name: int(min(1e3 * seconds / one, repeats)) for name, one in first.items()}
    wanted = {name: max(count, min(repeats, FEWEST)) for name, count in fit.items()}
    times = {name: [one] if is_warm else [] for name, one in first.items()}
    while any(len(times[name]) < wanted[name] for name in calls):
        for name, call in calls.items():
            if len(times[name]) < wanted[name]:
                times[name].append(1e3 * elapsed(call))
    return {name: summary(one) for name, one in times.items()}


def summary(times_ms: list[float]) -> dict[str, float]:
    """Median, smallest and largest, and how many."""
    median = statistics.median(times_ms)
    return {"median_ms": median, "min_ms": min(times_ms), "max_ms": max(times_ms), "repeats": len(times_ms)}


def elapsed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def options(program: str) -> argparse.Namespace:
    """What a simple program takes: batch, repeats, threads (set at once) and the result file."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def write(program: str, arguments: argparse.Namespace, results: list[Result]) -> None:
    """The result file, if one was asked for."""
    if arguments.out:
        write_result(arguments.out, program, {"results": results})


def write_result(path: Path, program: str, content: Mapping[str, object]) -> None:
    """One JSON file that begins with its origin."""
    path.write_text(json.dumps({"origin": origin(program), **content}, indent=1) + "\n")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        # A copy of the files alone, or no git.
        return os.environ.get("COMMIT", "unknown")
    return found.stdout.strip()


# What runs is what was there at the start.
COMMIT = _commit()


def origin(program: str) -> dict[str, str]:
    """What a result file says of itself."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": COMMIT,
        "machine": f"{platform.machine()}, {_processor()}, {_cores()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in PACKAGES},
        "threads": str(torch.get_num_threads()),
        "command": " ".join([program, *_without_result_file(sys.argv[1:])]),
    }


def _without_result_file(words: list[str]) -> list[str]:
    """The command line less `--out FILE`, which may be a place on somebody's machine."""
    following = [False, *(word == "--out" for word in words)]
    return [
        word
        for word, is_path in zip(words, following, strict=False)
        if not is_path and not word.startswith("--out")
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
