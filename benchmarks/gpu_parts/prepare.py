"""Compile everything first, in many processes at once: compilers keep what they made on the disk."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_parts.clock import cut_off, reason
from gpu_parts.session import Item

# How a process says that an item is done, among whatever else compilers print.
DONE = "warm: "

# Seconds for one item, in its process.
LONGEST_SECONDS = 150.0


def in_turn(items: list[Item], part: int, parts: int) -> None:
    """One process's share: compile, and say so."""
    calls = [(item, call) for item in items for call in item.warm]
    for item, call in calls[part::parts]:
        start = time.time()
        try:
            with cut_off(LONGEST_SECONDS):
                call()
            failed = None
        except Exception as error:
            failed = reason(error, 160)
        row = {"item": item.name, "seconds": round(time.time() - start, 1), "failed": failed}
        print(DONE + json.dumps(row), flush=True)


def all_at_once(seconds: float, processes: int) -> dict[str, Any]:
    """Start this program so many times with `--warm`, and end those that are not done in time."""
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"{part}.txt" for part in range(processes)]
        running = [_start(part, processes, log) for part, log in enumerate(logs)]
        while time.time() - start < seconds and any(one.poll() is None for one in running):
            time.sleep(0.2)
        unfinished = [one for one in running if one.poll() is None]
        for one in unfinished:
            one.kill()
        for one in running:
            one.wait()
        rows = [row for log in logs for row in _rows(log)]
        others = [_end(log) for one, log in zip(running, logs, strict=True) if one.returncode not in (0, -9)]
    return {
        "processes": processes,
        "seconds": round(time.time() - start, 1),
        "cut_off": len(unfinished),
        "ended_badly": others,
        "items": len(rows),
        "failed": {row["item"]: row["failed"] for row in rows if row["failed"]},
        "slowest": sorted(rows, key=lambda row: -row["seconds"])[:8],
    }


def _start(part: int, parts: int, log: Path) -> subprocess.Popen[bytes]:
    # Each is one of many: none needs more processes of its own.
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *sys.argv, f"--warm={part}/{parts}"]
    with log.open("wb") as output:
        return subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)


def _rows(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(errors="replace").splitlines()
    found = []
    for line in lines:
        if line.startswith(DONE + "{"):
            found.append(json.loads(line.removeprefix(DONE)))
    return found


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-300:]
