"""How time and peak memory of a training step grow with the map, the scope, the batch and the value depth.

    python benchmarks/growth.py [--sweeps n n-global r b v operator] [--repeats 3] [--threads 2]
        [--largest SIDE] [--out FILE]

Sweeps of the layer, every contestant at each size: `n`, maps at r=23 with d=64; `n-global`, the same at a
global context; `r`, scopes; `b`, images; `v`, value depths. `operator` is `position_output` alone at a
global context. Times are medians taken in turns in one fresh process for each size, memory the peak of one
step less what was resident before it, in one fresh process for each size and contestant (Linux).

Prints the milliseconds and the MB of every size, or "not run" and why, and for each sweep and contestant
the exponents: slopes of the logarithm of both against that of the swept letter, by least squares. For `n`
and `operator` maps below 28x28, where fixed costs rule, are left out of them.
"""

import argparse
import math
import statistics
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import ops
import torch
from memory import step_bytes
from peers import CONTESTANTS, draw, draw_images, line_up, train
from problems import Shape
from resident import extra_bytes, fresh
from timing import Result, interleaved, write_result

from lambdanets.functional import position_output

SECONDS: Final = 3.0
SMALLEST_FITTED: Final = 28**2
OPERATOR: Final = "operator"


class Point(NamedTuple):
    """One size of a sweep: the swept letter's value, and what runs."""

    value: int
    shape: Shape
    batch: int


SWEEPS: Final[dict[str, tuple[Point, ...]]] = {
    "n": tuple(Point(side**2, Shape(side, 64, 23), 1) for side in (14, 28, 56, 112)),
    "n-global": tuple(Point(side**2, Shape(side, 64, None), 1) for side in (14, 28, 40, 56, 112, 128)),
    "r": tuple(Point(scope, Shape(28, 128, scope), 4) for scope in (7, 15, 23, 31)),
    "b": tuple(Point(batch, Shape(28, 128, 23), batch) for batch in (2, 4, 8, 16)),
    "v": tuple(Point(depth, Shape(28, 4 * depth, 23), 4) for depth in (16, 32, 64, 128)),
    OPERATOR: tuple(Point(side**2, Shape(side, 64, None), 1) for side in (28, 56, 128)),
}


def step_times(names: list[str], point: Point, threads: int, repeats: int) -> dict[str, dict[str, float]]:
    """Times of a training step of some contestants, in this process."""
    torch.set_num_threads(threads)
    state, images = draw(point.shape), draw_images(point.shape, point.batch)
    layers = {name: CONTESTANTS[name].make(point.shape, state, torch.float32) for name in names}
    calls = {name: partial(train, layer, images) for name, layer in layers.items()}
    return interleaved(calls, repeats, seconds=SECONDS)


def operator_times(point: Point, threads: int, repeats: int) -> dict[str, float]:
    """Times of the operator and its gradients, in this process."""
    torch.set_num_threads(threads)
    call = partial(ops.train, position_output, ops.make(point.shape, point.batch))
    return interleaved({OPERATOR: call}, repeats, seconds=SECONDS)[OPERATOR]


def operator_bytes(point: Point, threads: int) -> int:
    """Extra bytes of the operator and its gradients, in this process."""
    torch.set_num_threads(threads)
    small = partial(ops.train, position_output, ops.make(Shape(4, 16, None), 1))
    return extra_bytes(small, partial(ops.train, position_output, ops.make(point.shape, point.batch)))


def measure(sweep: str, point: Point, threads: int, repeats: int) -> list[Result]:
    """One row a contestant."""
    row = {"sweep": sweep, "value": point.value, **point.shape._asdict(), "batch": point.batch}
    if sweep == OPERATOR:
        row["train"] = fresh(operator_times, point, threads, repeats)
        row["extra_bytes"] = fresh(operator_bytes, point, threads)
        return [{**row, "contestant": OPERATOR}]
    able, left_out = line_up(CONTESTANTS, point.shape, point.batch, threads)
    times = fresh(step_times, list(able), point, threads, repeats)
    rows = [{**row, "contestant": name, "not_run": reason} for name, reason in left_out.items()]
    for name in able:
        size = fresh(step_bytes, name, point.shape, point.batch, threads, torch.float32)
        rows.append({**row, "contestant": name, "train": times[name], "extra_bytes": size})
    return rows


def exponents(rows: list[Result]) -> dict[str, float]:
    """Slopes of the logarithms of time and memory of one contestant's rows, and of how many sizes."""
    swept_map = rows[0]["sweep"] in ("n", "n-global", OPERATOR)
    fitted = [row for row in rows if not swept_map or row["value"] >= SMALLEST_FITTED]
    times = [(row["value"], row["train"]["median_ms"]) for row in fitted]
    sizes = [(row["value"], row["extra_bytes"]) for row in fitted]
    return {"time": slope(times), "memory": slope(sizes), "sizes": len(fitted)}


def slope(points: list[tuple[float, float]]) -> float:
    """Of the logarithms, by least squares; what is not measurable (no extra memory) is left out."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope if len(logs) > 1 else math.nan


def show(rows: list[Result]) -> None:
    """One line a contestant."""
    for row in rows:
        where = f"{row['sweep']:<9} {row['value']:<6} {row['contestant']:<18}"
        if "not_run" in row:
            print(f"{where} not run ({row['not_run']})")
            continue
        times = row["train"]
        spread = f"({times['min_ms']:.1f} to {times['max_ms']:.1f}, {times['repeats']}x)"
        print(f"{where} {times['median_ms']:9.1f} ms {spread:<28} {row['extra_bytes'] / 1e6:8.1f} MB")
    print(end="", flush=True)


def summarise(rows: list[Result]) -> list[Result]:
    """Exponents of each sweep and contestant that ran at two sizes or more, printed."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        if "train" in row:
            groups.setdefault((row["sweep"], row["contestant"]), []).append(row)
    results = []
    for (sweep, contestant), group in groups.items():
        found = exponents(group)
        results.append({"sweep": sweep, "contestant": contestant, **found})
        print(
            f"exponents in {sweep:<9} {contestant:<18} time {found['time']:5.2f}"
            f"  memory {found['memory']:5.2f}  ({found['sizes']} sizes)"
        )
    return results


def main() -> None:
    """Run the sweeps, print, and write one result file."""
    parser = argparse.ArgumentParser(prog="benchmarks/growth.py")
    parser.add_argument("--sweeps", nargs="+", choices=tuple(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--largest", type=int, default=128, metavar="SIDE", help="leave larger maps out")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for sweep in arguments.sweeps:
        for point in SWEEPS[sweep]:
            if point.shape.side <= arguments.largest:
                found = measure(sweep, point, arguments.threads, arguments.repeats)
                show(found)
                rows += found
    result = {"rows": rows, "exponents": summarise(rows)}
    if arguments.out:
        write_result(arguments.out, "benchmarks/growth.py", result)


if __name__ == "__main__":
    main()
