"""Peak memory of a training step; growth of time and memory with map, scope, batch and value depth.

    python benchmarks/growth.py [--sweeps stages n n-global r b v operator] [--repeats 3] [--threads 2]
        [--largest SIDE] [--figure FILE] [--out FILE]

`stages` are the four stages of a ResNet-50 at r=23 and global contexts, every contestant at each. Sweeps of
the layer: `n`, maps at r=23 with d=64; `n-global`, the same at a global context; `r`, scopes; `b`, images;
`v`, value depths. `operator` is `position_output` alone at a global context. Times are medians taken in
turns in one fresh process for each size, memory the peak of one step (the output and all gradients) less
what was resident before it, in one fresh process for each size and contestant (Linux).

Prints the milliseconds and the MB of every size, or "not run" and why, and for each sweep and contestant
the exponents: slopes of the logarithm of both against that of the swept letter, by least squares. For `n`
and `operator` maps below 28x28, where fixed costs rule, are left out of them. `--figure` draws `n` and
`n-global` as PNG and SVG, in place of measuring from a result file if `--from` names one.
"""

import json
import math
import statistics
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import ops
import torch
from harness import Result, ResultFile, command_line, extra_bytes, fresh, race, show_time
from peers import CONTESTANTS, draw, draw_images, line_up, train
from shapes import MEMORY_SHAPES, Shape, largest_batch

from lambdanets.functional import position_output

SECONDS: Final = 3.0
SMALLEST_FITTED: Final = 28**2
STAGES: Final = "stages"
OPERATOR: Final = "operator"
BATCH: Final = 8


class Point(NamedTuple):
    """One size of a sweep: the swept letter's value, the layer and the batch."""

    value: int
    shape: Shape
    batch: int


SWEEPS: Final[dict[str, tuple[Point, ...]]] = {
    STAGES: tuple(Point(0, shape, largest_batch(shape, BATCH)) for shape in MEMORY_SHAPES),
    "n": tuple(Point(side**2, Shape(side, 64, 23), 1) for side in (14, 28, 56, 112)),
    "n-global": tuple(Point(side**2, Shape(side, 64, None), 1) for side in (14, 28, 40, 56, 112, 128)),
    "r": tuple(Point(scope, Shape(28, 128, scope), 4) for scope in (7, 15, 23, 31)),
    "b": tuple(Point(batch, Shape(28, 128, 23), batch) for batch in (2, 4, 8, 16)),
    "v": tuple(Point(depth, Shape(28, 4 * depth, 23), 4) for depth in (16, 32, 64, 128)),
    OPERATOR: tuple(Point(side**2, Shape(side, 64, None), 1) for side in (28, 56, 128)),
}


def layer_step(name: str, shape: Shape, batch: int) -> partial[None]:
    """A training step of one contestant, or of the operator alone."""
    if name == OPERATOR:
        return partial(ops.train, position_output, ops.make(shape, batch))
    layer = CONTESTANTS[name].make(shape, draw(shape), torch.float32)
    return partial(train, layer, draw_images(shape, batch))


def step_times(names: list[str], point: Point, threads: int, repeats: int) -> dict[str, Result]:
    """Times of a training step of some contestants, in this process."""
    torch.set_num_threads(threads)
    calls = {name: layer_step(name, point.shape, point.batch) for name in names}
    return race(calls, repeats, seconds=SECONDS)


def step_bytes(name: str, point: Point, threads: int) -> int:
    """Extra bytes of a training step of one contestant, in this process."""
    torch.set_num_threads(threads)
    small = Shape(4, 16, 3 if point.shape.scope else None)
    return extra_bytes(layer_step(name, small, 1), layer_step(name, point.shape, point.batch))


def measure(sweep: str, point: Point, threads: int, repeats: int) -> list[Result]:
    """One row for each contestant."""
    row = {"sweep": sweep, "value": point.value, **point.shape._asdict(), "batch": point.batch}
    row["shape"] = point.shape.name
    names, left_out = [OPERATOR], {}
    if sweep != OPERATOR:
        able, left_out = line_up(CONTESTANTS, point.shape, point.batch, threads)
        names = list(able)
    times = fresh(step_times, names, point, threads, repeats)
    rows = [{**row, "contestant": name, "not_run": reason} for name, reason in left_out.items()]
    for name in names:
        size = fresh(step_bytes, name, point, threads)
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
    """Slope of the logarithms; sizes without extra memory are left out."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope if len(logs) > 1 else math.nan


def show(rows: list[Result]) -> None:
    """One line for each contestant."""
    for row in rows:
        where = f"{row['sweep']:<9} {row['shape']:<19} b={row['batch']:<3} {row['contestant']:<18}"
        if "not_run" in row:
            print(f"{where} not run ({row['not_run']})")
        else:
            print(f"{where} {show_time(row['train'])} {row['extra_bytes'] / 1e6:8.1f} MB")
    print(end="", flush=True)


def summarise(rows: list[Result]) -> list[Result]:
    """Exponents of each sweep and contestant that ran at two sizes or more, printed."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        if "train" in row and row["sweep"] != STAGES:
            groups.setdefault((row["sweep"], row["contestant"]), []).append(row)
    results = []
    for (sweep, contestant), group in groups.items():
        fitted = exponents(group)
        results.append({"sweep": sweep, "contestant": contestant, **fitted})
        print(
            f"exponents in {sweep:<9} {contestant:<18} time {fitted['time']:5.2f}"
            f"  memory {fitted['memory']:5.2f}  ({fitted['sizes']} sizes)"
        )
    return results


# Colours that people with any colour vision tell apart (Okabe and Ito), and the marker of each contestant.
LOOKS: Final = {
    "lambdanets": ("#D55E00", "o"),
    "lambda-networks": ("#0072B2", "s"),
    "timm": ("#009E73", "^"),
    "plain-convolution": ("#CC79A7", "D"),
    "plain-pairs": ("#6B6B6B", "v"),
}


def draw_figure(rows: list[Result], source: dict[str, str], path: Path) -> None:
    """Time above and memory below, a window on the left and a global context on the right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 11, "axes.axisbelow": True, "svg.fonttype": "none"})
    figure, grid = plt.subplots(2, 2, figsize=(11.5, 8), sharey="row")
    for column, (sweep, context) in enumerate(
        {"n": "window of 23 × 23", "n-global": "global context"}.items()
    ):
        swept = [row for row in rows if row["sweep"] == sweep]
        sides = sorted({row["side"] for row in swept})
        # A size close to the largest has no room for its mark.
        sides = [side for side in sides if side == sides[-1] or side < sides[-1] / 1.3]
        for axes, unit in zip(grid[:, column], ("milliseconds", "megabytes"), strict=True):
            for name, (colour, marker) in LOOKS.items():
                ran = [row for row in swept if row["contestant"] == name and "train" in row]
                points = [(row["side"], _value(row, unit)) for row in ran if _value(row, unit) > 0]
                if points:
                    width = 3 if name == "lambdanets" else 1.8
                    line = zip(*sorted(points), strict=True)
                    axes.plot(*line, color=colour, marker=marker, linewidth=width, label=name)
            axes.set(xscale="log", yscale="log", ylabel=unit)
            axes.set_xticks(sides, [f"{side}²" for side in sides], minor=False)
            axes.set_xticks([], minor=True)
            what = "time" if unit == "milliseconds" else "peak memory"
            axes.set_title(
                f"{what} of a training step, {context}", loc="left", fontsize=12, fontweight="bold"
            )
            axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize=10)
        grid[-1, column].set_xlabel("positions of the map, side²")
    figure.text(
        0.01,
        0.012,
        "A line that ends early: the next size would need more than 6 GB, or 30 s.\n"
        f"d=64, k=16, h=4, one image, float32, threads: {source['threads']}, {source['machine']}; "
        f"torch {source['torch']}, lambda-networks {source['lambda-networks']}, timm {source['timm']}; "
        f"commit {source['commit']}, {source['date']}",
        fontsize=8.5,
        color="#555555",
    )
    figure.tight_layout(rect=(0, 0.05, 1, 1), w_pad=2, h_pad=2)
    for ending in (".png", ".svg"):
        figure.savefig(path.with_suffix(ending), dpi=150)


def _value(row: Result, unit: str) -> float:
    return row["train"]["median_ms"] if unit == "milliseconds" else row["extra_bytes"] / 1e6


def main() -> None:
    """Run the sweeps, print, write one result file, and draw."""
    parser = command_line(__doc__, repeats=3, largest=128)
    parser.add_argument("--sweeps", nargs="+", choices=tuple(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--figure", type=Path, help="a name without an ending")
    parser.add_argument("--from", type=Path, dest="source", help="result file to draw")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    file, rows = ResultFile(arguments.out), []
    if arguments.source:
        file.content = json.loads(arguments.source.read_text())
        rows = file.content["rows"]
    else:
        for sweep in arguments.sweeps:
            for point in SWEEPS[sweep]:
                if point.shape.side <= arguments.largest:
                    measured = measure(sweep, point, arguments.threads, arguments.repeats)
                    show(measured)
                    rows += measured
                    file.add(rows=rows)
        file.add(exponents=summarise(rows))
    if arguments.figure:
        draw_figure(rows, file.content["origin"], arguments.figure)


if __name__ == "__main__":
    main()
