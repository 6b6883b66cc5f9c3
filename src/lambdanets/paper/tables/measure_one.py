"""Speed and peak memory of one model in this process: `python -m lambdanets.paper.tables.measure_one JOB`."""

import contextlib
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
from torch import Tensor, nn

from lambdanets.analysis.memory import peak_bytes_of_process
from lambdanets.paper.tables.certain import build
from lambdanets.published import Row

# Exit code of a process that found too little memory.
OUT_OF_MEMORY: Final = 9

# Calls that are not counted, and the fewest and most that are.
_WARM_UP: Final = 2
_FEWEST, _MOST = 3, 30

# Of the memory that is free, what may be taken on a processor.
_SHARE: Final = 0.8


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure.

    Attributes:
        model: As rows of `paper` name it.
        image_size: Side of the images, in pixels.
        overrides: Of the model.
        mode: Inference, or a training step: the loss, all gradients and an update with momentum.
        batch: Images at a time.
        precision: Of weights and inputs, or bfloat16 by autocast.
        device: Where.
        seconds: Calls are repeated for about this long.
        memory_bytes: What this process may add on a processor; None for most of what is free.
    """

    model: str
    image_size: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mode: Literal["inference", "training"]
    batch: int
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    seconds: float = 10.0
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured.

    Attributes:
        seconds: Of one call, the median.
        fastest: Of one call.
        slowest: Of one call.
        repeats: Calls that count.
        peak_bytes: Most memory taken at a time, with weights and images, without the libraries.
        threads: Of the processor.
    """

    seconds: float
    fastest: float
    slowest: float
    repeats: int
    peak_bytes: int
    threads: int


def measure(job: Job) -> Measurement:
    """Build the model, call it some times, and say how long it took and how much memory.

    Raises:
        MemoryError: It does not fit.
    """
    try:
        return _measure(job)
    except RuntimeError as error:
        # torch has a class of its own for accelerators, and none for processors.
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise


def _measure(job: Job) -> Measurement:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    # Libraries start with their first call, which is no part of the model's memory.
    nn.functional.conv2d(torch.ones(1, 3, 8, 8, device=job.device), torch.ones(4, 3, 3, 3, device=job.device))
    before = _forget_peak(job.device)
    if job.device == "cpu":
        _limit_memory(job.memory_bytes)
    row = Row(table=0, label="", model=job.model, image_size=job.image_size, overrides=job.overrides)
    model = build(row).to(job.device)
    images = torch.randn(job.batch, 3, job.image_size, job.image_size, device=job.device)
    call = _inference(model, images) if job.mode == "inference" else _training(model, images)
    with _precision(job):
        times = _times(call, job)
    return Measurement(
        seconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        repeats=len(times),
        peak_bytes=peak_bytes_of_process(job.device) - before,
        threads=torch.get_num_threads(),
    )


def _precision(job: Job) -> contextlib.AbstractContextManager[object]:
    if job.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(job.device, torch.bfloat16)


def _inference(model: nn.Module, images: Tensor) -> Callable[[], object]:
    model.eval()

    def call() -> object:
        with torch.inference_mode():
            return model(images)

    return call


def _training(model: nn.Module, images: Tensor) -> Callable[[], object]:
    model.train()
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def call() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return call


def _times(call: Callable[[], object], job: Job) -> list[float]:
    def elapsed() -> float:
        start = time.perf_counter()
        call()
        if job.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(_WARM_UP):
        estimate = elapsed()
    return [elapsed() for _ in range(max(_FEWEST, min(_MOST, int(job.seconds / estimate))))]


def _forget_peak(device: str) -> int:
    """Let the peak begin anew, and give what is taken now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    peak = Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5")
        return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[1])
    return peak_bytes_of_process(device)


def _limit_memory(num_bytes: int | None) -> None:
    """Let an allocation fail rather than the machine run out, where the system tells what is free."""
    sizes, information = Path("/proc/self/statm"), Path("/proc/meminfo")
    if sizes.exists() and information.exists():
        taken = os.sysconf("SC_PAGE_SIZE") * int(sizes.read_text().split()[0])
        lines = information.read_text().splitlines()
        (free,) = (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        spare = int(_SHARE * free) if num_bytes is None else num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (taken + spare, resource.RLIM_INFINITY))


def main(words: list[str]) -> int:
    """Measure a job given as JSON and print the measurement as JSON."""
    try:
        measurement = measure(Job(**json.loads(words[0])))
    except MemoryError as error:
        print(error, file=sys.stderr)
        return OUT_OF_MEMORY
    print(json.dumps(dataclasses.asdict(measurement)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
