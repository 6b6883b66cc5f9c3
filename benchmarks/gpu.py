"""Everything that an NVIDIA GPU can tell, in one command and under nine minutes: right first, then fast.

    PYTHONPATH=src python benchmarks/gpu.py [--out FILE] [--minutes 8.5] [--only PHASE,PHASE] [--commit NAME]
        [--started SECONDS] [--force] [--tune] [--rehearse]

Phases, in this order: `machine` (device, driver, clocks, versions), `prepare` (compiles what the others need,
in many processes), `correctness` (every form and gradient against float64, bits, graphs, compiler),
`ceilings` (copies, matrix products, the peers' convolutions), `operator`, `layer`, `models`, `memory`.
Timings are not taken where an error is too large, unless `--force` is given. `lambda-networks`, timm and
torchvision are raced where they import.

Every number goes to one result file, which is written after each item; an item that fails leaves the reason
there, one that there was no time for `not run: out of time`. Each phase has a share of the minutes, and what
others left of theirs. After an error that a device does not survive, the program starts again after that
item. If the process itself is killed, run it again with the `--started` of the first time (`date +%s`): it
goes on after the item that killed it. A table of ratios is printed at the end.

`--rehearse` runs something tiny of everything; without a GPU the kernels are interpreted, on the CPU, and
times mean nothing. `--tune` looks for faster tiles instead (phase `tune`), and prints what to add to `TUNED`
in the package's table of tiles.
"""

import argparse
import datetime
import importlib
import importlib.util
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from gpu_parts import prepare
from gpu_parts.clock import Clock
from gpu_parts.session import Bench, Item, Session
from gpu_parts.sizes import FULL, REHEARSAL
from timing import origin

HERE: Final = Path(__file__).parent

# The parts of each phase; they are imported when they are run, after `get_ready`.
PHASES: Final = {
    "machine": ("machine",),
    "correctness": ("correctness", "invariants"),
    "ceilings": ("ceilings",),
    "operator": ("operators",),
    "layer": ("layer_race",),
    "models": ("model_race",),
    "memory": ("limits",),
    "tune": ("tuning",),
}
PREPARE: Final = "prepare"

# Parts of the time; a phase may also use what those before it left.
SHARES: Final = {
    "machine": 0.02,
    PREPARE: 0.22,
    "correctness": 0.13,
    "ceilings": 0.06,
    "operator": 0.17,
    "layer": 0.2,
    "models": 0.14,
    "memory": 0.06,
    "tune": 0.35,
}
MEASURED: Final = [phase for phase in SHARES if phase != "tune"]
TUNED: Final = ["machine", PREPARE, "tune"]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.py")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--only", type=phases, metavar="PHASE,PHASE")
    parser.add_argument("--commit", default=os.environ.get("COMMIT"), help="where git is not at hand")
    parser.add_argument("--started", type=float, help="of an earlier run to go on with, in seconds")
    parser.add_argument("--force", action="store_true", help="take times of what is wrong, too")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--warm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.only = arguments.only or (TUNED if arguments.tune else MEASURED)
    return arguments


def phases(text: str) -> list[str]:
    """Names with commas between them."""
    names = text.split(",")
    for name in names:
        if name not in SHARES:
            raise argparse.ArgumentTypeError(f"must be among {', '.join(SHARES)}, got {name!r}")
    return names


def get_ready() -> None:
    """What has to be before our package and Triton are imported; Triton looks for its interpreter then."""
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    if importlib.util.find_spec("lambdanets") is None:
        sys.path.append(str(HERE.parent / "src"))


def items(phase: str, bench: Bench) -> list[Item]:
    """All items of a phase."""
    parts = [importlib.import_module(f"gpu_parts.{name}") for name in PHASES[phase]]
    return [item for part in parts for item in part.items(bench)]


def make_bench(rehearse: bool) -> Bench:
    """The device, and what is run on it."""
    if not torch.cuda.is_available() and not rehearse:
        raise SystemExit("gpu: a CUDA device must be there, found none; --rehearse runs a little on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = REHEARSAL if rehearse else FULL
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    # Each contestant is compiled for itself, though many share their code.
    torch._dynamo.config.recompile_limit = 256
    torch._dynamo.config.accumulated_recompile_limit = 4096
    warnings.filterwarnings("ignore")
    return Bench(device, sizes, Clock(device, sizes.seconds), {}, rehearse)


def result_file(bench: Bench) -> Path:
    """By the hardware and the day; a rehearsal is nothing to keep."""
    if bench.rehearse:
        return Path(tempfile.gettempdir()) / "gpu_rehearsal.json"
    hardware = torch.cuda.get_device_name().lower().replace("nvidia", "").strip().replace(" ", "-")
    return HERE / "results" / f"gpu_{hardware}_{datetime.date.today():%Y%m%d}.json"


def run(arguments: argparse.Namespace, bench: Bench, session: Session) -> None:
    """All phases that were asked for, each until its share of the time is over."""
    asked = [phase for phase in SHARES if phase in arguments.only]
    whole, spent = sum(SHARES[phase] for phase in asked), 0.0
    for phase in asked:
        spent += SHARES[phase] / whole
        until = session.started + spent * (session.end - session.started)
        if phase == PREPARE:
            item = Item("compile", lambda until=until: compile_first(bench, until - time.time()), longest=600)
            session.run(phase, [item], until)
        else:
            session.run(phase, items(phase, bench), until)
        if phase == "correctness" and summary().red(session.results) and not arguments.force:
            session.results["gate"] = {"gate": "no times were taken, as not all is right"}
            return
    for phase in asked:
        if phase != PREPARE:
            session.run(phase, items(phase, bench), session.end)


def summary() -> ModuleType:
    """The part that makes the table."""
    return importlib.import_module("gpu_parts.summary")


def compile_first(bench: Bench, seconds: float) -> object:
    """Fill the compilers' caches."""
    processes = max(2, min(14, (os.cpu_count() or 2) - 2))
    return prepare.all_at_once(seconds, processes)


def warm(arguments: argparse.Namespace, bench: Bench) -> None:
    """This process's share of what is to be compiled, what takes longest first."""
    part, parts = map(int, arguments.warm.split("/"))
    asked = [
        phase for phase in ("tune", "models", "layer", "correctness", "operator") if phase in arguments.only
    ]
    prepare.in_turn([item for phase in asked for item in items(phase, bench)], part, parts)


def main() -> None:
    """Run, and print the table."""
    arguments = parse()
    get_ready()
    bench = make_bench(arguments.rehearse)
    if arguments.warm:
        return warm(arguments, bench)
    path = arguments.out or result_file(bench)
    found = origin("benchmarks/gpu.py")
    if arguments.commit:
        found["commit"] = arguments.commit
    session = Session(found, path, arguments.started or time.time(), arguments.minutes)
    if arguments.started and path.exists():
        session.continue_from_file()
    bench.results.update(session.results)
    session.results = bench.results
    run(arguments, bench, session)
    session.table = list(table(session.results))
    session.save()
    print(f"\n{path.name}, {time.time() - session.started:.0f} s: " + _phases(session))
    print("\n".join(session.table))
    return None


def table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What is printed at the end."""
    yield from summary().lines(results)
    if "tune" in results:
        yield "== for TUNED, under the device's name"
        yield from importlib.import_module("gpu_parts.tuning").lines(results["tune"])


def _phases(session: Session) -> str:
    return ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in session.seconds.items())


if __name__ == "__main__":
    main()
