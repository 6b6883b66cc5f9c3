"""`lambdanets doctor` and `slurm`: check a machine; print a batch script for several."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from lambdanets.cli._options import AnyRecipe, Argv, Format, print_json, without_format
from lambdanets.launch.slurm import slurm_script
from lambdanets.ranges import Processes, Range
from lambdanets.streams import print_line
from lambdanets.terminal import result_alone
from lambdanets.text import shell_words
from lambdanets.variables import is_first, is_launched


def doctor(
    *,
    out: Path = Path("runs"),
    dist: bool = False,
    backend: Literal["auto", "gloo", "nccl"] = "auto",
    limit: Annotated[float, Range(0.001, 1e6)] = 30.0,
    format: Format = "text",
) -> int:
    """Check versions, devices, disk and processes, with advice for what is wrong.

    Exit codes: 0 all is well, 1 the processes cannot reach one another, 2 the
    variables of a launcher do not fit, 3 a library is missing or too old, 7
    the folder cannot be written.

    Args:
        out: The run folder.
        dist: Try collectives between the processes that torchrun has started, or two that this starts.
        backend: Backend of the collectives.
        limit: Longest time of each collective, in seconds.
        format: text or json; --json is short for the latter. What --dist prints goes to the standard error.
    """
    from lambdanets.launch import collectives
    from lambdanets.launch.doctor import examine

    as_json = format == "json"
    is_one_of_several = dist and is_launched()
    findings, code, dist_code = [], 0, None
    with result_alone(as_json):
        for finding in () if is_one_of_several else examine(out):
            print_line(str(finding))
            findings.append(finding.to_dict())
            code = code or finding.exit_code
        if dist:
            attempt = collectives.try_collectives if is_one_of_several else collectives.launch_locally
            dist_code = attempt(out, backend, limit)
    code = dist_code or code
    if as_json and is_first():
        print_json({"exit_code": code, "dist_exit_code": dist_code, "findings": findings})
    return code


def slurm(
    config: AnyRecipe,
    *,
    argv: Argv,
    nodes: Annotated[int, Range(1, 10**5)],
    gpus_per_node: Processes,
    time: str = "24:00:00",
    out: Path | None = None,
    resume_allow: tuple[str, ...] = (),
    tensorboard: bool = False,
    format: Format = "text",
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
        format: text or json; --json is short for the latter.
    """
    words = without_format(argv)
    script = slurm_script(
        config,
        list(_train_arguments(words)),
        command=shell_words("lambdanets", "slurm", *words),
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        time=time,
    )
    if format == "text":
        print_line(script, end="")
        return
    print_json(
        {
            "recipe": config.recipe,
            "command": config.command,
            "nodes": nodes,
            "gpus_per_node": gpus_per_node,
            "num_processes": nodes * gpus_per_node,
            "time": time,
            "script": script,
        }
    )


def _train_arguments(argv: Sequence[str]) -> Iterator[str]:
    """Leave out the options that are not those of `lambdanets train`, with their values."""
    arguments = iter(argv)
    for argument in arguments:
        option, has_value, _ = argument.partition("=")
        if option not in ("--nodes", "--gpus-per-node", "--time"):
            yield argument
        elif not has_value:
            next(arguments, None)
