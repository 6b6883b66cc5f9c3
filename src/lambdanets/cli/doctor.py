"""`lambdanets doctor` and `slurm`: check a machine; print a batch script for several."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from lambdanets.cli._options import AnyRecipe, Argv
from lambdanets.launch.slurm import slurm_script


def doctor(
    *,
    out: Path = Path("runs"),
    dist: bool = False,
    backend: Literal["auto", "gloo", "nccl"] = "auto",
    limit: float = 30.0,
) -> int:
    """Check versions, devices, disk and processes, with advice for what is wrong.

    Exit codes: 0 all is well, 1 the processes cannot reach one another, 3 a library is missing or too old, 7
    the folder cannot be written.

    Args:
        out: The run folder.
        dist: Try collectives between the processes that torchrun has started, or two that this starts.
        backend: Backend of the collectives.
        limit: Longest time of each collective, in seconds.
    """
    from lambdanets.launch import collectives
    from lambdanets.launch.doctor import examine

    if dist and collectives.is_launched():
        return collectives.try_collectives(out, backend, limit)
    code = 0
    for finding in examine(out):
        print(finding, flush=True)
        code = code or finding.exit_code
    if dist:
        code = collectives.launch_locally(out, backend, limit) or code
    return code


def slurm(
    config: AnyRecipe,
    *,
    argv: Argv,
    nodes: int,
    gpus_per_node: int,
    time: str = "24:00:00",
    out: Path | None = None,
    resume_allow: tuple[str, ...] = (),
    tensorboard: bool = False,
) -> None:
    """Print a SLURM script that trains a recipe on several machines.

    Use it as lambdanets slurm … > run.sh, then sbatch run.sh.

    Args:
        config: The recipe's settings.
        argv: The arguments of the command.
        nodes: Number of machines.
        gpus_per_node: GPUs of each machine, every one with a process of its own.
        time: Limit of one stay in the queue, as sbatch takes it.
        out: As in `lambdanets train`, and so the next two; a folder that all machines see.
        resume_allow: Settings that may differ from those of the run that is continued.
        tensorboard: Write event files for TensorBoard.
    """
    script = slurm_script(
        config,
        list(_train_arguments(argv)),
        command=shlex.join(["lambdanets", "slurm", *argv]),
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        time=time,
    )
    print(script, end="")


def _train_arguments(argv: Argv) -> Iterator[str]:
    """Leave out the options that are not those of `lambdanets train`, with their values."""
    arguments = iter(argv)
    for argument in arguments:
        option, has_value, _ = argument.partition("=")
        if option not in ("--nodes", "--gpus-per-node", "--time"):
            yield argument
        elif not has_value:
            next(arguments, None)
