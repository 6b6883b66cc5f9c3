"""Many items within a time: each result is kept at once, each failure recorded, nothing runs over."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_parts.clock import Clock, cut_off, reason
from gpu_parts.sizes import Sizes

NOT_RUN = "not run: out of time"
# What an item is while it runs; it stays so where the process was killed, and is not tried again.
STARTED = "failed: the process ended during this item"

# Seconds between the end of the time and the moment when the running item is cut off.
GRACE = 10.0


@dataclass(frozen=True)
class Bench:
    """What every part is given.

    Attributes:
        device: Where everything runs.
        sizes: What is run.
        clock: Takes the times.
        results: By phase and item, what was found so far.
        rehearse: Whether this is a rehearsal, with a device of any kind.
    """

    device: torch.device
    sizes: Sizes
    clock: Clock
    results: dict[str, dict[str, Any]]
    rehearse: bool

    @property
    def is_cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.device.type == "cuda"


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
    warm: tuple[Callable[[], object], ...] = ()
    longest: float = 60.0


class Session:
    """Runs items and keeps their results in one file.

    Args:
        origin: What the file says of itself.
        path: The file.
        started: When the time began, as `time.time` gives it.
        minutes: Of all.
    """

    def __init__(self, origin: dict[str, Any], path: Path, started: float, minutes: float) -> None:
        self.origin, self.path, self.started = origin, path, started
        self.end = started + 60 * minutes
        self.results: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}
        self.table: list[str] = []

    def continue_from_file(self) -> None:
        """Take what an earlier process of this run has kept."""
        kept = json.loads(self.path.read_text())
        self.results, self.seconds = kept["results"], kept["phase_seconds"]

    def run(self, phase: str, items: Iterable[Item], until: float) -> None:
        """Every item that was not run yet, while there is time."""
        rows, start = self.results.setdefault(phase, {}), time.time()
        waiting = [item for item in items if rows.get(item.name, NOT_RUN) == NOT_RUN]
        for item in waiting:
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
                found = item.run()
        except Exception as error:
            found = f"failed: {reason(error)}"
        # What the failed call held is free only now that its frames are gone.
        gc.collect()
        if torch.cuda.is_available() and not is_lost():
            torch.cuda.empty_cache()
        return found, time.time() - start

    def save(self) -> None:
        """The file, written whole or not at all."""
        content = {
            "origin": self.origin,
            "phase_seconds": self.seconds,
            "results": self.results,
            "table": self.table,
        }
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1, default=str) + "\n")
        partial.replace(self.path)

    def _start_again(self) -> None:
        """In a new process, as nothing runs on a device after an illegal address."""
        self.save()
        print("the device was lost; starting again after this item", flush=True)
        words = [word for word in sys.argv if not word.startswith("--started=")]
        os.execv(sys.executable, [sys.executable, *words, f"--started={self.started}"])


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
