"""Timing functions side by side, and where a number comes from."""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def interleaved(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median, smallest and largest milliseconds of each call; one warm-up, then in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"median_ms": statistics.median(one[1:]), "min_ms": min(one[1:]), "max_ms": max(one[1:])}
        for name, one in times.items()
    }


def options(program: str) -> argparse.Namespace:
    """Batch, repeats, threads (set at once) and the result file."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments


def write(program: str, arguments: argparse.Namespace, results: list[dict]) -> None:
    """The result file, if one was asked for."""
    if arguments.out:
        command = f"{program} --batch {arguments.batch} --repeats {arguments.repeats}"
        arguments.out.write_text(json.dumps({"origin": origin(command), "results": results}, indent=1) + "\n")


def origin(command: str) -> dict[str, str]:
    """What a result file says of itself."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {_processor()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "dtype": "float32",
        "command": command,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
