"""Speed and peak memory of one model in this process: `python -m lambdanets.paper.measure_one JOB`."""

import dataclasses
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from lambdanets.analysis.memory import peak_bytes_of_process
from lambdanets.paper.computed import build_model
from lambdanets.processes import die_with_parent
from lambdanets.streams import print_error, print_line

# Exit code of a process that has too little memory.
OUT_OF_MEMORY: Final = 9

_WARM_UP_CALLS: Final = 2
_LEAST_CALLS, _MOST_CALLS = 3, 30

# The fraction of the available memory that may be taken on a processor.
_MEMORY_FRACTION: Final = 0.8

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A measurement to make.

    Attributes:
        model: A model of this library or of timm.
        image_size: Side of the images, in pixels.
        overrides: Overrides of the model's config.
        mode: Inference, or a training step: the loss, all gradients and an update with momentum.
        batch: Images at a time.
        precision: Float32, or bfloat16 by autocast.
        device: Runs the model.
        seconds: Calls are repeated for about this long.
        memory_bytes: Limit of this process's further memory on a processor; None for most of what is free.
    """

    model: str
    image_size: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mode: Literal["inference", "training"]
    batch: int
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Device = "cpu"
    seconds: float = 10.0
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The time of a call and the memory it takes.

    Attributes:
        seconds: Median of the calls.
        fastest: Seconds of the fastest call.
        slowest: Seconds of the slowest call.
        repeats: Number of calls, without the warm-up.
        peak_bytes: Peak memory with weights and images, without the libraries.
        threads: Threads of the processor.
    """

    seconds: float
    fastest: float
    slowest: float
    repeats: int
    peak_bytes: int
    threads: int


def measure(job: Job) -> Measurement:
    """Build the model, call it repeatedly, and measure time and memory."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    # Libraries start with their first call, which is no part of the model's memory.
    nn.functional.conv2d(torch.ones(1, 3, 8, 8, device=job.device), torch.ones(4, 3, 3, 3, device=job.device))
    before = _reset_peak(job.device)
    if job.device == "cpu":
        _limit_memory(job.memory_bytes)
    model = build_model(job.model, job.image_size, job.overrides).to(job.device)
    images = torch.randn(job.batch, 3, job.image_size, job.image_size, device=job.device)
    labels = torch.zeros(job.batch, dtype=torch.int64, device=job.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    model.train(job.mode == "training")

    def call() -> None:
        if job.mode == "inference":
            with torch.inference_mode():
                model(images)
        else:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()

    with torch.autocast(job.device, torch.bfloat16, enabled=job.precision == "bfloat16"):
        times = _times(call, job)
    return Measurement(
        seconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        repeats=len(times),
        peak_bytes=peak_bytes_of_process(job.device) - before,
        threads=torch.get_num_threads(),
    )


def _times(call: Callable[[], object], job: Job) -> list[float]:
    def elapsed() -> float:
        start = time.perf_counter()
        call()
        if job.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(_WARM_UP_CALLS):
        estimate = elapsed()
    calls = max(_LEAST_CALLS, min(_MOST_CALLS, int(job.seconds / estimate)))
    return [elapsed() for _ in range(calls)]


def _reset_peak(device: Device) -> int:
    """Reset the peak, and return the bytes in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")
        return _used_bytes(1)
    return peak_bytes_of_process(device)


def _limit_memory(num_bytes: int | None) -> None:
    """Let an allocation fail before the machine runs out of memory, where the system tells what is free."""
    information = Path("/proc/meminfo")
    if information.exists():
        (line,) = (line for line in information.read_text().splitlines() if line.startswith("MemAvailable"))
        available = 1024 * int(line.split()[1])
        spare = int(_MEMORY_FRACTION * available) if num_bytes is None else num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (_used_bytes(0) + spare, resource.RLIM_INFINITY))


def _used_bytes(place: int) -> int:
    """Bytes of this process: 0 for its address space, 1 for what is resident."""
    return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[place])


def main(argv: list[str]) -> int:
    """Measure a job given as JSON and print the measurement as JSON."""
    die_with_parent()
    try:
        measurement = measure(Job(**json.loads(argv[0])))
    except (MemoryError, RuntimeError) as error:
        # torch has an error of its own for accelerators, and none for processors.
        is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if not is_memory:
            raise
        print_error(str(error))
        return OUT_OF_MEMORY
    print_line(json.dumps(dataclasses.asdict(measurement)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
