"""Many items within a time: each result is kept at once, each failure recorded, nothing runs over."""

import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from harness import Call, Clock, Result, ResultFile, cut_off, reason
from shapes import Sizes

NOT_RUN: Final = "not run: out of time"
# The entry of an item while it runs; it stays so where the process was killed, and is not tried again.
STARTED: Final = "failed: the process ended during this item"

# Seconds between the end of the time and the moment when the running item is cut off.
GRACE: Final = 10.0
# Seconds after which one call is given up, and one compilation.
LONGEST_CALL: Final = 30.0
LONGEST_COMPILATION: Final = 150.0
# Times of a call, at most.
REPEATS: Final = 100

# How a compiling process marks its own lines, among whatever else compilers print.
DONE: Final = "compiled: "

QUERY: Final = (
    "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu,"
    "utilization.gpu,memory.used"
)
MODULES: Final = ("triton", "torchvision", "timm", "lambda_networks", "jaxtyping", "einops")


@dataclass(frozen=True)
class Bench:
    """The device and what is run on it.

    Attributes:
        device: Where everything runs.
        sizes: What is run.
        clock: Takes the times.
        rehearse: Whether this is a rehearsal, with a device of any kind.
        results: By phase and item, so far.
    """

    device: torch.device
    sizes: Sizes
    clock: Clock
    rehearse: bool
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def is_cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.device.type == "cuda"

    def race(self, calls: Mapping[str, Call], factor: float = 1.0) -> dict[str, Result]:
        """Times in turns; a call that fails leaves its reason."""
        seconds = factor * self.sizes.seconds
        return self.clock.race(calls, REPEATS, seconds=seconds, cut_off_after=LONGEST_CALL)


@dataclass(frozen=True)
class Item:
    """One thing to measure.

    Attributes:
        name: In the result file.
        run: Measures; what it returns is kept.
        warm: Compile what `run` will need, into the compilers' caches on the disk.
        longest: Seconds after which it is cut off.
    """

    name: str
    run: Callable[[], Any]
    warm: tuple[Call, ...] = ()
    longest: float = 60.0


class Session:
    """Runs items and keeps their results in one file.

    Args:
        bench: Its results are filled.
        file: Where they are kept.
        started: When the time began, as `time.time` gives it.
        minutes: Of all phases together.
    """

    def __init__(self, bench: Bench, file: ResultFile, started: float, minutes: float) -> None:
        self.results, self.file, self.started = bench.results, file, started
        self.end = started + 60 * minutes
        self.seconds: dict[str, float] = {}

    def resume(self) -> None:
        """Take what an earlier process of this run has kept."""
        if self.file.path and self.file.path.exists():
            kept = json.loads(self.file.path.read_text())
            self.results.update(kept["results"])
            self.seconds = kept["phase_seconds"]

    def run(self, phase: str, items: Iterable[Item], until: float) -> None:
        """Every item that was not run yet, while there is time."""
        rows, start = self.results.setdefault(phase, {}), time.time()
        for item in [item for item in items if rows.get(item.name, NOT_RUN) == NOT_RUN]:
            if time.time() > until:
                rows[item.name] = NOT_RUN
                continue
            rows[item.name] = STARTED
            self.save()
            rows[item.name], took = self._attempt(item)
            print(f"[{time.time() - self.started:4.0f}s] {phase}: {item.name} ({took:.1f} s)", end="")
            print(f" {rows[item.name][:160]}" if isinstance(rows[item.name], str) else "", flush=True)
            if is_lost():
                self._start_again()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.time() - start
        self.save()

    def _attempt(self, item: Item) -> tuple[Any, float]:
        start = time.time()
        try:
            with cut_off(min(item.longest, self.end + GRACE - start)):
                result = item.run()
        except Exception as error:
            result = f"failed: {reason(error)}"
        # What the failed call held is free only now that its frames are gone.
        gc.collect()
        if torch.cuda.is_available() and not is_lost():
            torch.cuda.empty_cache()
        return result, time.time() - start

    def save(self, **more: object) -> None:
        """Write the file."""
        self.file.add(phase_seconds=self.seconds, results=self.results, **more)

    def _start_again(self) -> None:
        """Go on in a new process, as nothing runs on a device after an illegal address."""
        self.save()
        print("the device was lost; starting again after this item", flush=True)
        argv = [argument for argument in sys.argv if not argument.startswith("--started=")]
        os.execv(sys.executable, [sys.executable, *argv, f"--started={self.started}"])


def is_lost() -> bool:
    """Whether the device answers no more, or its random numbers wait for a graph that was given up."""
    if not torch.cuda.is_available():
        return False
    try:
        torch.randn(1, device="cuda")
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def graphs(calls: Mapping[str, Call], notes: Result) -> dict[str, Call]:
    """Each call captured in a CUDA graph; a note where it cannot be."""
    replays = {}
    for name, call in calls.items():
        try:
            replays[name] = captured(call)
        except Exception as error:
            notes[f"graph of {name}"] = f"failed: {reason(error)}"
    return replays


def captured(call: Call) -> Call:
    """Replays of the call from a CUDA graph."""
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


def compile_share(items: list[Item], part: int, parts: int) -> None:
    """Compile one process's share, and print a line for each item."""
    calls = [(item, call) for item in items for call in item.warm]
    for item, call in calls[part::parts]:
        start, failed = time.time(), None
        try:
            with cut_off(LONGEST_COMPILATION):
                call()
        except Exception as error:
            failed = reason(error, 160)
        row = {"item": item.name, "seconds": round(time.time() - start, 1), "failed": failed}
        print(DONE + json.dumps(row), flush=True)


def compile_everything(seconds: float, processes: int) -> Result:
    """Start this program in many processes with `--compile-part`, and end those that are not done in time.

    Compilers keep what they made on the disk.
    """
    start = time.time()
    # Each is one of many: none needs more processes of its own.
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{part}.txt" for part in range(processes)]
        running = []
        for part, log in enumerate(logs):
            argv = [sys.executable, *sys.argv, f"--compile-part={part}/{processes}"]
            with log.open("wb") as output:
                running.append(subprocess.Popen(argv, stdout=output, stderr=output, env=environment))
        while time.time() - start < seconds and any(one.poll() is None for one in running):
            time.sleep(0.2)
        unfinished = [one for one in running if one.poll() is None]
        for one in unfinished:
            one.kill()
        for one in running:
            one.wait()
        texts = [log.read_text(errors="replace") for log in logs]
    lines = [line for text in texts for line in text.splitlines() if line.startswith(DONE + "{")]
    rows = [json.loads(line.removeprefix(DONE)) for line in lines]
    return {
        "processes": processes,
        "seconds": round(time.time() - start, 1),
        "cut_off": len(unfinished),
        "ended_badly": [
            text[-300:] for one, text in zip(running, texts, strict=True) if one.returncode not in (0, -9)
        ],
        "items": len(rows),
        "failed": {row["item"]: row["failed"] for row in rows if row["failed"]},
        "slowest": sorted(rows, key=lambda row: -row["seconds"])[:8],
    }


def machine(bench: Bench) -> Result:
    """Device, driver, clocks and versions: read, never set."""
    versions = {}
    for name in MODULES:
        try:
            versions[name] = getattr(importlib.import_module(name), "__version__", "imports")
        except Exception as error:
            versions[name] = f"does not import: {reason(error, 80)}"
    result: Result = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
        "modules": versions,
    }
    if bench.is_cuda:
        properties = torch.cuda.get_device_properties(bench.device)
        result["gpu"] = properties.name
        result["capability"] = f"{properties.major}.{properties.minor}"
        result["multiprocessors"] = properties.multi_processor_count
        result["memory_bytes"] = properties.total_memory
        result["free_bytes"] = torch.cuda.mem_get_info()[0]
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        result["nvidia-smi"] = dict(zip(QUERY.split(","), done.stdout.strip().split(", "), strict=False))
    return result
