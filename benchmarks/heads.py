"""Where lambdas are better than scores: implementations against the number of heads on small maps.

python benchmarks/heads.py [--batch 8] [--repeats 5] [--threads 2] [--out FILE]
"""

import itertools
from functools import partial

import torch
from ops import infer, train
from timing import Result, interleaved, options, write

from lambdanets.functional import position_output
from lambdanets.functional._dispatch import choose, default_workspace
from lambdanets.functional.position import IMPLEMENTATIONS, describe

MAPS = ((14, 256), (10, 256), (7, 512))
HEADS = (4, 8, 16, 32)
FORMS = ("dense", "fourier")


def main() -> None:
    """Every map and number of heads, at a global context."""
    arguments = options("benchmarks/heads.py")
    results = []
    for (side, channels), heads in itertools.product(MAPS, HEADS):
        sizes = (
            (arguments.batch, heads, 16, side, side),
            (arguments.batch, 1, channels // heads, side, side),
            (1, 16, 2 * side - 1, 2 * side - 1),
        )
        tensors = tuple(torch.randn(size, requires_grad=True) for size in sizes)
        forms = {name: partial(position_output, impl=name) for name in FORMS}
        workspace = default_workspace("cpu")
        problems = [describe(*tensors, backward=backward, workspace=workspace) for backward in (False, True)]
        result: Result = {"side": side, "channels": channels, "heads": heads}
        result["auto"] = [choose(IMPLEMENTATIONS, problem).name for problem in problems]
        for kind, call in (("infer", infer), ("train", train)):
            calls = {name: partial(call, form, tensors) for name, form in forms.items()}
            result[kind] = interleaved(calls, arguments.repeats)
            cells = "  ".join(f"{name} {row['median_ms']:5.1f}" for name, row in result[kind].items())
            print(
                f"{side}x{side} d={channels} h={heads:<3} {kind}  {cells}   auto {'+'.join(result['auto'])}"
            )
        results.append(result)
    write("benchmarks/heads.py", arguments, results)


if __name__ == "__main__":
    main()
