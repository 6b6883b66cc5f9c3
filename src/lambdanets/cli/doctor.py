"""`lambdanets doctor`: check versions, devices, disk and the connection of processes."""

from pathlib import Path
from typing import Literal


def doctor(
    *,
    out: Path = Path("runs"),
    dist: bool = False,
    backend: Literal["auto", "gloo", "nccl"] = "auto",
    limit: float = 30.0,
) -> int:
    """Check versions, devices, disk and processes, with advice for what is wrong.

    Exit codes: 0 all is well, 1 processes do not hear one another, 3 a library is missing, 7 the disk fails.

    Args:
        out: The run folder.
        dist: Try collectives between the processes that torchrun has started, or two that this starts.
        backend: Of the collectives.
        limit: Longest time of each collective, in seconds.
    """
    from lambdanets.launch import collectives
    from lambdanets.launch.doctor import examine, exit_code, render

    if dist and collectives.is_launched():
        return collectives.try_collectives(out, backend, limit)
    findings = []
    for finding in examine(out):
        print(render(finding), flush=True)
        findings.append(finding)
    code = exit_code(findings)
    if dist:
        code = collectives.launch_locally(out, backend, limit) or code
    return code
