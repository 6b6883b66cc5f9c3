"""`lambdanets train`: train a recipe, or continue a run where it stopped."""

from pathlib import Path

from lambdanets.cli._options import Argv, Recipe
from lambdanets.cli._training import start_training


def train(
    config: Recipe,
    *,
    argv: Argv,
    out: Path | None = None,
    dry_run: bool = False,
    processes: int | None = None,
    gpus: int | None = None,
    max_restarts: int = 0,
    resume_allow: tuple[str, ...] = (),
    tensorboard: bool = False,
) -> int:
    """Train a recipe, or continue a run where it stopped.

    Args:
        config: All settings.
        argv: The arguments of the command.
        out: The run folder; runs/RECIPE unless given. The same command on the same folder continues the run.
        dry_run: Print what would run, and where each setting comes from, with steps, memory and disk.
        processes: Start so many processes on this machine, by torchrun.
        gpus: The same, each on a GPU of its own.
        max_restarts: How often the processes are started again after one of them has died.
        resume_allow: Settings, by dotted name, that may differ from those of the run that is continued;
            `world_size` is the number of processes.
        tensorboard: Write event files for TensorBoard too, into the folder `tensorboard` of the run.
    """
    return start_training(
        config,
        argv,
        out=out,
        dry_run=dry_run,
        processes=processes,
        gpus=gpus,
        max_restarts=max_restarts,
        resume_allow=resume_allow,
        tensorboard=tensorboard,
    )
