"""A SLURM script that trains a recipe on several machines and puts itself back into the queue in time."""

import re
from collections.abc import Sequence
from typing import Final

from lambdanets.errors import ArgumentError, check_positive
from lambdanets.text import shell_words
from lambdanets.training.config import RunConfig

# Minutes, hours:minutes:seconds, days-hours and the like.
_TIME: Final = re.compile(r"(\d+-)?\d+(:\d+){0,2}|UNLIMITED|INFINITE", re.IGNORECASE | re.ASCII)

_SCRIPT: Final = r"""#!/bin/bash
# {command}
#
# Submit it with `sbatch`. Settings of the training may follow the file's name; they come behind those below.
# {notice_s} s before the time limit the run is asked to stop: it saves, leaves, and the job goes back into
# the queue, where the same command continues the run. What the processes print is in {name}-JOB.log.
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task={cores}
#SBATCH --time={time}
#SBATCH --signal=B:USR1@{notice_s}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -u

# Processes meet at the first machine, at a port of this job's own.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS={num_threads}

stopped=no
# srun hands the signal on to all processes. torchrun and what it starts ignore it; those that train listen.
trap 'stopped=yes; kill -USR1 "$steps"' USR1

srun --kill-on-bad-exit=1 bash -c 'trap "" USR1; exec "$@"' task \
    torchrun --nnodes="$SLURM_NNODES" --nproc-per-node={gpus} --max-restarts=0 \
    --rdzv-backend=c10d --rdzv-endpoint="$first:$port" --rdzv-id="$SLURM_JOB_ID" \
    -m lambdanets {trained} {arguments} "$@" &
steps=$!

# A signal ends `wait` before the steps have ended.
wait "$steps"
status=$?
while kill -0 "$steps" 2>/dev/null; do
    wait "$steps"
    status=$?
done

if [ "$stopped" = yes ] && [ "$status" -ne 0 ]; then
    echo "stopped before the time limit, back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
"""


def slurm_script(
    config: RunConfig, argv: Sequence[str], *, command: str, nodes: int, gpus_per_node: int, time: str
) -> str:
    """Make a batch script: one task a machine, which is torchrun with a process for each GPU.

    Args:
        config: The settings of the run.
        argv: Recipe and options of the training, which give these settings.
        command: The command that prints the script, for its head.
        time: Limit of one stay in the queue, as `sbatch` takes it.
    """
    if not _TIME.fullmatch(time):
        raise ArgumentError(
            f"slurm: time must be a limit as sbatch takes it, such as 90, 24:00:00 or 2-12, got {time!r}."
        )
    check_positive("slurm", nodes=nodes, gpus_per_node=gpus_per_node)
    processes = nodes * gpus_per_node
    if processes > config.global_batch_size:
        raise ArgumentError(
            f"slurm: nodes × gpus_per_node must be at most global_batch_size={config.global_batch_size},"
            f" got {processes}."
        )
    return _SCRIPT.format(
        command=command,
        trained=config.command,
        name=re.sub(r"[^\w.-]", "-", config.recipe),
        nodes=nodes,
        gpus=gpus_per_node,
        # Each process has workers beside it that read images.
        cores=gpus_per_node * (config.exec.num_workers + 1),
        time=time,
        # A step, a checkpoint of the largest network and a slow disk need less.
        notice_s=300,
        num_threads=config.num_threads,
        arguments=shell_words(*argv),
    )
