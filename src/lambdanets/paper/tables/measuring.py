"""Speed and memory of a table's networks on this machine, each in a process of its own."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import torch

from lambdanets.errors import ArgumentError
from lambdanets.integrations.timm import BASELINES
from lambdanets.models import list_models
from lambdanets.paper.tables.certain import rows_of
from lambdanets.paper.tables.measure_one import OUT_OF_MEMORY, Job, Measurement
from lambdanets.paper.tables.results import Result
from lambdanets.published import Row
from lambdanets.runs.origin import commit, machine_name, now, versions

Mode = Literal["inference", "training"]

# Table -> quantities. The paper measures Tables 4, 12 and 13 in float32, and the others in bfloat16.
MEASURED: Final[dict[int, tuple[str, ...]]] = {
    3: ("inference_images_per_s",),
    4: ("inference_images_per_s", "peak_gib"),
    5: ("training_images_per_s", "inference_images_per_s"),
    12: ("inference_images_per_s",),
    13: ("inference_images_per_s",),
    18: ("step_s",),
}
_BFLOAT16: Final = (5, 18)

# Where measuring starts; too much is halved until it fits.
_BATCHES: Final = {"cuda": 128, "cpu": 8}
# The images of a step of Table 18.
_STEP_IMAGES: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How to measure.

    Attributes:
        device: `"cuda"` or `"cpu"`.
        batch: To start from; None for 128 on an accelerator and 8 on a processor.
        time_limit_s: For all tries of one network; it is left out when it takes longer.
        seconds: Calls of a network are repeated for about this long.
        rows: Shell pattern of the labels of rows.
    """

    device: Literal["cuda", "cpu"]
    batch: int | None = None
    time_limit_s: float = 300.0
    seconds: float = 10.0
    rows: str = "*"


def measure_tables(
    numbers: Sequence[int], conditions: Conditions, tell: Callable[[str], None]
) -> Iterator[Result]:
    """Measure what the tables have to measure, network by network.

    Args:
        numbers: Tables; those without anything to measure are passed over.
        conditions: How.
        tell: Is told what happens.

    Raises:
        ArgumentError: None of the tables has anything to measure, or none of their rows fits the pattern.
    """
    places = [
        (row, quantity)
        for number in numbers
        for row in rows_of(number)
        if _can_run(row) and fnmatchcase(row.label, conditions.rows)
        for quantity in MEASURED.get(number, ())
    ]
    if not places:
        raise ArgumentError(
            f"tables: numbers to measure must be among {', '.join(map(str, MEASURED))} with rows that fit"
            f" {conditions.rows!r}, got {', '.join(map(str, numbers))}."
        )
    # What runs is what was there at the start.
    commit()
    known: dict[str, tuple[Job, Measurement] | None] = {}
    for index, (row, quantity) in enumerate(places, start=1):
        job = job_of(row, quantity, conditions)
        key = json.dumps(dataclasses.asdict(job), sort_keys=True)
        say = _Teller(tell, f"[{index} of {len(places)}] table {row.table}, {row.label}, {job.mode}")
        if key not in known:
            known[key] = run(job, conditions.time_limit_s, say)
        found = known[key]
        if found is not None:
            yield result(row, quantity, *found)


class _Teller:
    def __init__(self, tell: Callable[[str], None], prefix: str) -> None:
        self._tell, self._prefix = tell, prefix

    def __call__(self, text: str) -> None:
        self._tell(f"{self._prefix}: {text}")


def _can_run(row: Row) -> bool:
    return row.model in BASELINES or row.model in list_models()


def job_of(row: Row, quantity: str, conditions: Conditions) -> Job:
    """What to measure for one quantity of a row."""
    is_half = row.table in _BFLOAT16 and conditions.device == "cuda"
    return Job(
        model=row.model,
        image_size=row.image_size,
        overrides=row.overrides,
        mode="inference" if quantity.startswith("inference") else "training",
        batch=conditions.batch or _BATCHES[conditions.device],
        precision="bfloat16" if is_half else "float32",
        device=conditions.device,
        seconds=conditions.seconds,
    )


def run(job: Job, time_limit_s: float, tell: Callable[[str], None]) -> tuple[Job, Measurement] | None:
    """Measure in a fresh process, with half the batch as often as memory is short.

    Returns:
        The job as it ran and what was measured; None when it takes too long or one image does not fit.
    """
    end = time.monotonic() + time_limit_s
    while True:
        try:
            done = _start(job, end - time.monotonic())
        except subprocess.TimeoutExpired:
            tell(f"left out, more than {time_limit_s:g} s")
            return None
        if done.returncode == 0:
            measurement = Measurement(**json.loads(done.stdout.splitlines()[-1]))
            tell(f"{1e3 * measurement.seconds:.0f} ms, batch {job.batch}, {measurement.repeats} times")
            return job, measurement
        # The system ends a process that takes the last memory by signal 9.
        if done.returncode not in (OUT_OF_MEMORY, -9):
            tell(f"left out, it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
            return None
        if job.batch == 1:
            tell("left out, one image does not fit into memory")
            return None
        job = replace(job, batch=job.batch // 2)
        tell(f"memory is short, batch {job.batch} now")


def _start(job: Job, seconds: float) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "lambdanets.paper.tables.measure_one", json.dumps(dataclasses.asdict(job))]
    # A waiting thread that spins costs a factor of 16 as soon as another program wants its core.
    surroundings = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=max(seconds, 0), env=surroundings
    )


def result(row: Row, quantity: str, job: Job, measurement: Measurement) -> Result:
    """One quantity as a line of a result file."""
    values = {
        "inference_images_per_s": job.batch / measurement.seconds,
        "training_images_per_s": job.batch / measurement.seconds,
        "step_s": measurement.seconds * _STEP_IMAGES / job.batch,
        "peak_gib": measurement.peak_bytes / 2**30,
    }
    settings: Mapping[str, Any] = {
        "model": job.model,
        "image_size": job.image_size,
        "overrides": dict(job.overrides),
        "mode": job.mode,
        "batch": job.batch,
        "precision": job.precision,
        "device": job.device,
        **dataclasses.asdict(measurement),
    }
    return Result(
        table=row.table,
        row=row.label,
        column=quantity,
        value=values[quantity],
        kind="measured",
        machine=machine_name(job.device),
        settings=settings,
        versions=versions(),
        commit=commit(),
        command=f"lambdanets tables {row.table} --measure --batch {job.batch}",
        date=now(),
    )


def this_device() -> Literal["cuda", "cpu"]:
    """CUDA where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
