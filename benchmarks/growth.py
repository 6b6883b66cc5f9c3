"""Time and memory of the operator at a global context, against the size of the map.

    python benchmarks/growth.py [--channels 64] [--threads 2] [--out FILE]

One process a size. Prints the seconds of a forward and all gradients of one image, the extra resident
memory at its peak, and the exponent of each in the number of positions.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from ops import make, train
from problems import Shape
from timing import interleaved, origin

from lambdanets.functional import position_output

SIDES = (28, 56, 128)


def measure(side: int, channels: int) -> dict[str, float]:
    """One size, in this process."""
    tensors = make(Shape(side, channels, None), 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = interleaved({"train": lambda: train(position_output, tensors)}, 3)["train"]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"side": side, "seconds": times["median_ms"] / 1e3, "extra_bytes": 1024 * (after - before)}


def exponent(rows: list[dict[str, float]], key: str) -> float:
    """Slope of the logarithm against the logarithm of the positions, by least squares."""
    x = [2 * math.log(row["side"]) for row in rows]
    y = [math.log(row[key]) for row in rows]
    return statistics.linear_regression(x, y).slope


def main() -> None:
    """Start one process a size, print, and write one result file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", type=int, help="one size, its figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.channels)))
        return
    rows = []
    for side in SIDES:
        command = [sys.executable, __file__, "--side", str(side), "--channels", str(arguments.channels)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print(f"{side}x{side}  {rows[-1]['seconds']:.3f} s  {rows[-1]['extra_bytes'] / 1e6:.0f} MB")
    exponents = {key: exponent(rows, key) for key in ("seconds", "extra_bytes")}
    print("exponents in n:", ", ".join(f"{key} {value:.2f}" for key, value in exponents.items()))
    if arguments.out:
        source = origin(f"benchmarks/growth.py --channels {arguments.channels}")
        result = {"origin": source, "rows": rows, "exponents": exponents}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
