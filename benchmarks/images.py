"""Draw time and peak memory of a training step against the map, from a result file of growth.py.

    python benchmarks/growth.py --sweeps n n-global --out FILE
    python benchmarks/image.py FILE --out IMAGE

Writes IMAGE.png and IMAGE.svg: four panels, time above and memory below, local context on the left and
global on the right, both axes logarithmic, every line with its name. A line that ends early was left out of
the larger sizes because of what it would need.
"""

import argparse
import json
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from timing import Result

# Colours that people with any colour vision tell apart (Okabe and Ito), and how a line is called.
LOOKS: Final = {
    "lambdanets": ("#D55E00", "o", "lambdanets"),
    "lambda-networks": ("#0072B2", "s", "lambda-networks"),
    "timm": ("#009E73", "^", "timm"),
    "plain-convolution": ("#CC79A7", "D", "plain PyTorch,\nconvolution"),
    "plain-pairs": ("#6B6B6B", "v", "plain PyTorch,\nall pairs"),
}
COLUMNS: Final = {"n": "window of 23 × 23", "n-global": "global context"}
MEASURES: Final = {"milliseconds": "time of a training step", "megabytes": "peak memory of a training step"}
# The least distance of two names, in points, for each of their lines of text.
LINE_POINTS: Final = 12.5


def line(rows: list[Result], sweep: str, contestant: str, unit: str) -> list[tuple[int, float]]:
    """(side, value) of what was measured, by side."""
    points = []
    for row in rows:
        if row["sweep"] == sweep and row["contestant"] == contestant and "train" in row:
            value = row["train"]["median_ms"] if unit == "milliseconds" else row["extra_bytes"] / 1e6
            points.append((row["side"], value))
    return sorted(point for point in points if point[1] > 0)


def draw_panel(axes: Axes, rows: list[Result], sweep: str, unit: str) -> list[tuple[str, int, float]]:
    """The lines; where each ends."""
    ends = []
    for name, (colour, marker, _) in LOOKS.items():
        points = line(rows, sweep, name, unit)
        if not points:
            continue
        is_own = name == "lambdanets"
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            marker=marker,
            markersize=7 if is_own else 5.5,
            linewidth=3 if is_own else 1.8,
            zorder=3 if is_own else 2,
        )
        ends.append((name, *points[-1]))
    return ends


def name_lines(axes: Axes, ends: list[tuple[str, int, float]]) -> None:
    """Write each line's name right of its end, moved up or down where two would touch."""
    pixels = axes.figure.dpi / 72
    ends = sorted(ends, key=lambda end: end[2])
    heights = [axes.transData.transform(end[1:])[1] / pixels for end in ends]
    num_lines = [LOOKS[name][2].count("\n") + 1 for name, *_ in ends]
    centres = moved_apart(heights, [LINE_POINTS * count for count in num_lines])
    for (name, side, value), height, centre in zip(ends, heights, centres, strict=True):
        colour, _, words = LOOKS[name]
        axes.annotate(
            words,
            (side, value),
            xytext=(9, centre - height),
            textcoords="offset points",
            color=colour,
            fontsize=10.5,
            fontweight="bold" if name == "lambdanets" else "normal",
            verticalalignment="center",
            linespacing=0.95,
        )


def moved_apart(centres: list[float], sizes: list[float]) -> list[float]:
    """Ascending centres, neighbours that overlap pushed away from each other in equal parts."""
    centres = list(centres)
    for _ in range(100):
        for i in range(len(centres) - 1):
            overlap = (sizes[i] + sizes[i + 1]) / 2 - (centres[i + 1] - centres[i])
            if overlap > 0:
                centres[i] -= overlap / 2
                centres[i + 1] += overlap / 2
    return centres


def set_axes(axes: Axes, sides: list[int], title: str, unit: str) -> None:
    """Logarithmic axes, marked with the sizes of the maps."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    # A size close to the largest has no room for its mark.
    marked = [side for side in sides if side == sides[-1] or side < sides[-1] / 1.3]
    axes.set_xticks(marked, [f"{side}²" for side in marked], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlim(sides[0] * 0.85, sides[-1] * 2.9)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10.5)


def image(result: Result) -> plt.Figure:
    """All four panels and where they come from."""
    rows = result["rows"]
    plt.rcParams.update({"font.size": 11, "axes.axisbelow": True, "svg.fonttype": "none"})
    figure, grid = plt.subplots(2, len(COLUMNS), figsize=(11.5, 8), sharey="row")
    ends = {}
    for column, (sweep, context) in enumerate(COLUMNS.items()):
        sides = sorted({row["side"] for row in rows if row["sweep"] == sweep})
        for axes, (unit, title) in zip(grid[:, column], MEASURES.items(), strict=True):
            ends[axes] = draw_panel(axes, rows, sweep, unit)
            set_axes(axes, sides, f"{title}, {context}", unit)
        grid[-1, column].set_xlabel("positions of the map, side²")
    source = result["origin"]
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
    for axes in grid[:, 0]:
        axes.set_ylim(top=axes.get_ylim()[1] * 2)
    figure.canvas.draw()
    for axes, places in ends.items():
        name_lines(axes, places)
    return figure


def main() -> None:
    """Read, draw, and write both files."""
    parser = argparse.ArgumentParser(prog="benchmarks/image.py")
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a name without an ending")
    arguments = parser.parse_args()
    figure = image(json.loads(arguments.result.read_text()))
    for ending in (".png", ".svg"):
        figure.savefig(arguments.out.with_suffix(ending), dpi=150)


if __name__ == "__main__":
    main()
