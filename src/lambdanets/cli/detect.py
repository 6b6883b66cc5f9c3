"""`lambdanets detect`: train and evaluate detectors, and use them."""

from pathlib import Path
from typing import Literal

from lambdanets.cli._options import Argv, DetectRecipe, Format, print_json
from lambdanets.cli._training import start_training
from lambdanets.errors import check_positive
from lambdanets.terminal import pairs
from lambdanets.training.torchrun import world_size


def train(
    config: DetectRecipe,
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
    """Train a detector, or continue a run where it stopped.

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


def eval(
    run: Path,
    /,
    *,
    argv: Argv,
    weights: Literal["best", "ema", "raw"] = "best",
    evaluator: Literal["faster-coco-eval", "pycocotools"] = "faster-coco-eval",
    root: Path | None = None,
    out: Path | None = None,
    num_workers: int = 0,
    processes: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    format: Format = "text",
) -> int:
    """Evaluate a detector on its test images: average precision, and its results as JSON.

    Args:
        run: A run folder.
        argv: The arguments of the command.
        weights: best: of the best epoch; ema or raw: the EMA or the network itself of the last checkpoint.
        evaluator: The library that scores; both give the same numbers.
        root: The folder of the images, where it is not that of the training.
        out: Folder for results.json and scores.json; the run folder unless given.
        num_workers: Processes that read images.
        processes: Processes among which the images are divided.
        device: Where the network runs.
        format: text or json; --json is short for the latter.
    """
    check_positive("detect eval", processes=processes)
    if processes > 1 and world_size() == 1:
        from lambdanets.training.torchrun import launch

        return launch(["detect", "eval", *argv], processes)
    from lambdanets.runs.detect import evaluate_detector
    from lambdanets.training.config import ExecConfig
    from lambdanets.training.distributed import init_distributed

    execution = ExecConfig(device=device, num_workers=num_workers)
    with init_distributed(execution) as ctx:
        found = evaluate_detector(
            run, weights=weights, evaluator=evaluator, root=root, execution=execution, ctx=ctx
        )
        if ctx.is_main:
            files = found.write(out or run)
            if format == "json":
                print_json(found.to_dict())
            else:
                print("\n".join([*found.lines(), pairs({"files": " · ".join(map(str, files))})]))
    return 0
