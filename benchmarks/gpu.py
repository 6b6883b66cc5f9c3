"""Everything that an NVIDIA GPU can tell, in one command and under nine minutes: right first, then fast.

    PYTHONPATH=src python benchmarks/gpu.py [--out FILE] [--minutes 8.5] [--only PHASE,PHASE] [--commit NAME]
        [--started SECONDS] [--force] [--tune] [--rehearse]

Phases, in this order: `machine` (device, driver, clocks, versions), `prepare` (compiles what the others need,
in many processes), `correctness` (every implementation and gradient against float64, bits, graphs, compiler),
`operator` (with the device's own rates for copies and matrix products), `layer`, `models`.
Timings are not taken where an error is too large, unless `--force` is given. `lambda-networks`, timm and
torchvision are raced where they import.

Every number goes to one result file, which is written after each item; an item that fails leaves the reason
there, one that there was no time for `not run: out of time`. Each phase has a fraction of the minutes, and
what others left of theirs. After an error that a device does not survive, the program starts again after
that item. If the process itself is killed, run it again with the `--started` of the first time (`date +%s`):
it goes on after the item that killed it. A table of ratios is printed at the end.

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
from pathlib import Path
from typing import Final

import torch
from gpu_parts.session import Bench, Item, Session, compile_everything, compile_share, machine
from harness import Clock, ResultFile
from shapes import FULL, REHEARSAL

HERE: Final = Path(__file__).parent

# The module of each phase, imported when it is run, after `get_ready`.
MODULES: Final = {
    "correctness": "correctness",
    "operator": "operators",
    "layer": "layer_race",
    "models": "model_race",
    "tune": "tuning",
}
# Fractions of the time; a phase may also use what those before it left.
FRACTIONS: Final = {
    "machine": 0.02,
    "prepare": 0.22,
    "correctness": 0.15,
    "operator": 0.22,
    "layer": 0.22,
    "models": 0.17,
    "tune": 0.35,
}
MEASURED: Final = [phase for phase in FRACTIONS if phase != "tune"]
TUNED: Final = ["machine", "prepare", "tune"]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--only", type=phases, metavar="PHASE,PHASE")
    parser.add_argument("--commit", default=os.environ.get("COMMIT"), help="where git is not at hand")
    parser.add_argument("--started", type=float, help="of an earlier run to go on with, in seconds")
    parser.add_argument("--force", action="store_true", help="take times of what is wrong, too")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--compile-part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.only = arguments.only or (TUNED if arguments.tune else MEASURED)
    return arguments


def phases(text: str) -> list[str]:
    """Names with commas between them."""
    names = text.split(",")
    for name in names:
        if name not in FRACTIONS:
            raise argparse.ArgumentTypeError(f"must be among {', '.join(FRACTIONS)}, got {name!r}")
    return names


def get_ready() -> None:
    """Set what has to be set before our package and Triton are imported: Triton looks for its interpreter."""
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    if importlib.util.find_spec("lambdanets") is None:
        sys.path.append(str(HERE.parent / "src"))


def make_bench(rehearse: bool) -> Bench:
    """The device, and what is run on it."""
    if not torch.cuda.is_available() and not rehearse:
        raise SystemExit("gpu: a CUDA device must be there, found none; --rehearse runs a little on the CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    # Of the many algorithms for a convolution in several axes, trying all takes minutes.
    torch.backends.cudnn.benchmark_limit = 4
    # Each contestant is compiled for itself, though many share their code.
    torch._dynamo.config.recompile_limit = 256
    torch._dynamo.config.accumulated_recompile_limit = 4096
    warnings.filterwarnings("ignore")
    return Bench(device, REHEARSAL if rehearse else FULL, Clock(device.type), rehearse)


def result_file(bench: Bench) -> Path:
    """Named by the hardware and the day; a rehearsal is nothing to keep."""
    if bench.rehearse:
        return Path(tempfile.gettempdir()) / "gpu_rehearsal.json"
    hardware = torch.cuda.get_device_name().lower().replace("nvidia", "").strip().replace(" ", "-")
    return HERE / "results" / f"gpu_{hardware}_{datetime.date.today():%Y%m%d}.json"


def items(phase: str, bench: Bench, seconds: float = 0.0) -> list[Item]:
    """All items of a phase."""
    if phase == "machine":
        return [Item("device", lambda: machine(bench))]
    if phase == "prepare":
        processes = max(2, min(14, (os.cpu_count() or 2) - 2))
        return [Item("compile", lambda: compile_everything(seconds, processes), longest=600)]
    return importlib.import_module(f"gpu_parts.{MODULES[phase]}").items(bench)


def run(arguments: argparse.Namespace, bench: Bench, session: Session) -> None:
    """All phases on the command line, each until its fraction of the time is over; then what was left out."""
    wanted = [phase for phase in FRACTIONS if phase in arguments.only]
    whole, spent = sum(FRACTIONS[phase] for phase in wanted), 0.0
    for phase in wanted:
        spent += FRACTIONS[phase] / whole
        until = session.started + spent * (session.end - session.started)
        session.run(phase, items(phase, bench, until - time.time()), until)
        if phase == "correctness" and not arguments.force:
            from gpu_parts.summary import red

            if red(session.results):
                session.results["gate"] = {"gate": "no times were taken, as not all is right"}
                return
    for phase in wanted:
        if phase != "prepare":
            session.run(phase, items(phase, bench), session.end)


def main() -> None:
    """Run, and print the table."""
    arguments = parse()
    get_ready()
    bench = make_bench(arguments.rehearse)
    if arguments.compile_part:
        # What takes longest first.
        order = ("tune", "models", "layer", "correctness", "operator")
        waiting = [item for phase in order if phase in arguments.only for item in items(phase, bench)]
        compile_share(waiting, *map(int, arguments.compile_part.split("/")))
        return
    file = ResultFile(arguments.out or result_file(bench))
    if arguments.commit:
        file.content["origin"]["commit"] = arguments.commit
    session = Session(bench, file, arguments.started or time.time(), arguments.minutes)
    if arguments.started:
        session.resume()
    run(arguments, bench, session)
    table = list(importlib.import_module("gpu_parts.summary").lines(session.results))
    session.save(table=table)
    spent = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in session.seconds.items())
    print(f"\n{file.path.name}, {time.time() - session.started:.0f} s: {spent}")
    print("\n".join(table))


if __name__ == "__main__":
    main()
