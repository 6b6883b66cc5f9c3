"""`lambdanets doctor`: check versions, devices, disk and processes."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="run folder (runs)")
    parser.add_argument(
        "--dist", action="store_true", help="try collectives: of torchrun's processes, or of two it starts"
    )
    parser.add_argument(
        "--backend", choices=("auto", "gloo", "nccl"), default="auto", help="of --dist (auto)"
    )
    parser.add_argument("--limit", type=float, default=30.0, metavar="S", help="of each collective (30)")


def main(arguments: argparse.Namespace) -> int:
    """Print what is found, with advice where it is bad. Exit 0, 1 (processes), 3 (libraries) or 7 (disk)."""
    from lambdanets.launch import collectives, doctor

    if arguments.dist and collectives.is_launched():
        return collectives.try_collectives(arguments.out, arguments.backend, arguments.limit)
    findings = []
    for finding in doctor.examine(arguments.out):
        print(doctor.render(finding), flush=True)
        findings.append(finding)
    code = doctor.exit_code(findings)
    if arguments.dist:
        code = collectives.launch_locally(arguments.out, arguments.backend, arguments.limit) or code
    return code
