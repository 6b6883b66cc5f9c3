"""`lambdanets figure 4`: speed against accuracy, with the paper's points and ours."""

import argparse
from pathlib import Path

from lambdanets.cli.tables import add_results


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("number", type=int, choices=(4,), help="the paper's Figure 4")
    parser.add_argument("--out", type=Path, default=Path("figure_4.png"), metavar="FILE.png")
    add_results(parser)


def main(arguments: argparse.Namespace) -> int:
    """Draw the figure and say where it is and what it shows."""
    from lambdanets.paper.figure import draw_figure_4
    from lambdanets.paper.results import load_results

    print(draw_figure_4(load_results(arguments.results, arguments.machine), arguments.out))
    print(arguments.out)
    return 0
