"""Speed and memory of the networks of a table on this machine, each in a process of its own."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

import torch

from lambdanets.errors import ArgumentError
from lambdanets.integrations.timm import BASELINES
from lambdanets.models import list_models
from lambdanets.paper.measure_one import OUT_OF_MEMORY, Device, Job, Measurement
from lambdanets.paper.results import Result, new_result
from lambdanets.paper.tables import rows_of
from lambdanets.published import Row
from lambdanets.runs.origin import commit
from lambdanets.terminal import count
from lambdanets.variables import PARENT

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

# The first batch; one that is too large is halved until it fits.
_BATCHES: Final = {"cuda": 128, "cpu": 8}
# The images of a step of Table 18.
_STEP_IMAGES: Final = 1024


def measure_tables(
    numbers: Sequence[int],
    *,
    batch: int | None = None,
    time_limit_s: float = 300.0,
    rows: str = "*",
    log: Callable[[str], None],
) -> Iterator[Result]:
    """Measure the networks of some tables, one after the other, on CUDA where there is one; equal ones once.

    Args:
        numbers: Tables; those without anything to measure are skipped.
        batch: The first to try; None for 128 on an accelerator and 8 on a processor.
        time_limit_s: For all tries of one network; it is left out when it takes longer.
        rows: Shell pattern of the labels of rows.
        log: Receives a line about each network.

    Raises:
        ArgumentError: None of the tables has anything to measure, or none of their rows fits the pattern.
    """
    chosen = [
        (row, quantity)
        for number in numbers
        for row in rows_of(number)
        if (row.model in BASELINES or row.model in list_models()) and fnmatchcase(row.label, rows)
        for quantity in MEASURED.get(number, ())
    ]
    if not chosen:
        raise ArgumentError(
            f"tables: numbers to measure must be among {', '.join(map(str, MEASURED))} with rows that fit"
            f" {rows!r}, got {', '.join(map(str, numbers))}."
        )
    # Asked at the start: later the files may differ from the code that runs.
    commit()
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    known: dict[str, tuple[Job, Measurement] | None] = {}
    for index, (row, quantity) in enumerate(chosen, start=1):
        job = _job_of(row, quantity, device, batch)
        key = json.dumps(dataclasses.asdict(job), sort_keys=True)
        if key not in known:
            prefix = f"[{index} of {len(chosen)}] table {row.table}, {row.label}, {job.mode}"
            log(f"{prefix}: at most {time_limit_s:g} s")
            known[key] = run(job, time_limit_s, lambda text: log(f"{prefix}: {text}"))  # noqa: B023
        if (found := known[key]) is not None:
            yield _result_of(row, quantity, *found)


def _job_of(row: Row, quantity: str, device: Device, batch: int | None = None) -> Job:
    is_half = row.table in _BFLOAT16 and device == "cuda"
    return Job(
        model=row.model,
        image_size=row.image_size,
        overrides=row.overrides,
        mode="inference" if quantity.startswith("inference") else "training",
        batch=batch or _BATCHES[device],
        precision="bfloat16" if is_half else "float32",
        device=device,
    )


def run(job: Job, time_limit_s: float, log: Callable[[str], None]) -> tuple[Job, Measurement] | None:
    """Measure in a new process, and halve the batch while memory is short.

    None when it takes too long or one image does not fit.
    """
    end = time.monotonic() + time_limit_s
    while True:
        try:
            done = _start(job, end - time.monotonic())
        except subprocess.TimeoutExpired:
            log(f"left out, more than {time_limit_s:g} s")
            return None
        if done.returncode == 0:
            measurement = Measurement(**json.loads(done.stdout.splitlines()[-1]))
            log(
                f"{1e3 * measurement.seconds:.0f} ms, batch {job.batch}, {count(measurement.repeats, 'time')}"
            )
            return job, measurement
        # The system ends a process that takes the last memory by signal 9.
        if done.returncode not in (OUT_OF_MEMORY, -9):
            log(f"left out, it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
            return None
        if job.batch == 1:
            log("left out, one image does not fit into memory")
            return None
        job = replace(job, batch=job.batch // 2)
        log(f"memory is short, batch {job.batch} now")


def _start(job: Job, timeout_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lambdanets.paper.measure_one", json.dumps(dataclasses.asdict(job))]
    # A waiting thread that spins costs a factor of 16 as soon as another program wants its core.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, PARENT: str(os.getpid())}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=max(timeout_s, 0), env=environment
    )


def _result_of(row: Row, quantity: str, job: Job, measurement: Measurement) -> Result:
    values = {
        "inference_images_per_s": job.batch / measurement.seconds,
        "training_images_per_s": job.batch / measurement.seconds,
        "step_s": measurement.seconds * _STEP_IMAGES / job.batch,
        "peak_gib": measurement.peak_bytes / 2**30,
    }
    settings = dataclasses.asdict(job) | dataclasses.asdict(measurement)
    # The limit of memory is the machine's.
    del settings["memory_bytes"]
    return new_result(
        row,
        quantity,
        values[quantity],
        "measured",
        device=job.device,
        settings=settings,
        command=f"lambdanets tables {row.table} --measure --batch {job.batch}",
    )
