"""`lambdanets eval`: evaluate runs on their test images."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lambdanets.cli._options import Argv, Format, print_json
from lambdanets.ranges import Count, Processes, Side, Workers
from lambdanets.runs.other_data import OtherData
from lambdanets.streams import output_may_be_lost, print_error, print_line
from lambdanets.terminal import pairs
from lambdanets.variables import starts_processes

if TYPE_CHECKING:
    from lambdanets.runs.eval_table import Attempt
    from lambdanets.runs.evaluate import RunEvaluation

# Unreadable images that a terminal lists.
_MOST_NAMED: Final = 10
_WIDEST_RUN: Final = 34
_TRAINING_DATA: Final = OtherData()


def eval(
    runs: tuple[Path, ...],
    /,
    *,
    argv: Argv,
    csv: Path | None = None,
    weights: Literal["best", "ema", "raw"] = "best",
    data: OtherData = _TRAINING_DATA,
    size: Side | None = None,
    real: Path | None = None,
    skip_bad: bool = False,
    batch: Count = 250,
    num_workers: Workers = 0,
    processes: Processes = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    format: Format = "text",
) -> int:
    """Evaluate finished or running runs on their test images, or on others.

    A single run ends with the exit code of its error, several with 1 after any error.

    Args:
        runs: Run folders.
        argv: The arguments of the command.
        csv: Add a row for each run to this table.
        weights: best: of the best epoch; ema or raw: the EMA or the network itself of the last checkpoint.
        data: Other images than those of the training.
        size: Side of the test images; the run's own unless given.
        real: JSON file with all labels that count as correct (ReaL).
        skip_bad: Leave unreadable images out, instead of exit code 4.
        batch: Images at a time.
        num_workers: Processes that read images.
        processes: Processes among which the images are divided.
        device: Where the network runs.
        format: text or json; --json is short for the latter.
    """
    if starts_processes("eval", processes if processes > 1 else 0):
        from lambdanets.training.torchrun import launch

        return launch(["eval", *argv], processes)
    from lambdanets.runs.eval_table import evaluate_runs
    from lambdanets.runs.evaluate import EvalSettings
    from lambdanets.training.config import ExecConfig
    from lambdanets.training.distributed import init_distributed

    settings = EvalSettings(
        weights=weights,
        data=data,
        size=size,
        real=real,
        skip_bad=skip_bad,
        batch=batch,
        num_workers=num_workers,
        device=device,
    )
    # The rows of the table are written, whoever reads the lines.
    heard = output_may_be_lost() if csv else nullcontext()
    with init_distributed(ExecConfig(device=device)) as ctx, heard:
        attempts = evaluate_runs(runs, settings, csv, ctx=ctx)
        if not ctx.is_main:
            # The first process prints the result of all.
            return max([0, *(1 for attempt in attempts if attempt.error)])
        as_json = format == "json"
        if len(runs) > 1:
            return _print_several(attempts, runs, as_json, with_real=real is not None)
        (attempt,) = attempts
        if attempt.result is None:
            raise attempt.error or AssertionError
        _print_one(attempt.result, as_json)
        return 0


def _print_one(result: "RunEvaluation", as_json: bool) -> None:
    _warn(result)
    if as_json:
        print_json(result.to_dict())
        return
    from lambdanets.runs.class_report import class_lines

    evaluation = result.evaluation
    rows = {
        "weights": f"{Path(result.origin.source).relative_to(result.run)}, {_weights(result)}",
        "data": f"{result.data} ({result.test_name})",
        "images": _images(result),
        "accuracy": f"{evaluation.accuracy:.2%}, {evaluation.correct} of {evaluation.total}",
    }
    if len(result.labels) > 5:
        rows["top-5"] = f"{evaluation.top5_accuracy:.2%}, {evaluation.top5_correct} of {evaluation.total}"
    if evaluation.real_total is not None:
        real = "none" if evaluation.real_accuracy is None else f"{evaluation.real_accuracy:.2%}"
        without = evaluation.total - evaluation.real_total
        rows["ReaL"] = (
            f"{real}, {evaluation.real_correct} of {evaluation.real_total}; {without} have no such label"
        )
    rows["loss"] = f"{evaluation.loss:.4f}"
    rows["speed"] = f"{result.images_per_s:,.0f} images/s on {result.device}"
    print_line(f"{result.run}: {result.config.recipe}, {result.config.model.name}")
    print_line(pairs(rows))
    for sentence in evaluation.unreadable[:_MOST_NAMED]:
        print_line(f"  {sentence}")
    if len(evaluation.unreadable) > _MOST_NAMED:
        print_line(f"  and {len(evaluation.unreadable) - _MOST_NAMED} more")
    print_line()
    for line in class_lines(result.per_class()):
        print_line(line)


def _weights(result: "RunEvaluation") -> str:
    origin = result.origin
    network = "the network itself" if origin.is_ema is False else "EMA"
    after = f"after epoch {origin.epoch}" if origin.epoch is not None else f"after step {origin.step}"
    images = "the images of the training's tests" if result.is_other else "these images"
    chosen = f", chosen as the best on {images}" if origin.weights == "best" else ""
    return f"{network} {after}{chosen}"


def _images(result: "RunEvaluation") -> str:
    evaluation = result.evaluation
    size = " of {}x{} pixels".format(*result.image_size) if result.image_size else ""
    if not evaluation.left_out:
        return f"{evaluation.total}{size}"
    full = evaluation.total + evaluation.left_out
    return f"{evaluation.total} of {full}{size}; {evaluation.left_out} cannot be read and are left out"


def _warn(result: "RunEvaluation") -> None:
    for warning in result.origin.warnings:
        print_error(f"warning: {warning}")


def _print_several(
    attempts: Iterator["Attempt"], runs: Sequence[Path], as_json: bool, *, with_real: bool
) -> int:
    """Print one line for each run as soon as it is done, or one JSON list at the end."""
    width = min(max(len(str(run)) for run in runs), _WIDEST_RUN)
    row = f"{{:<{width}}}" + "{:>9}" * (3 + with_real) + "{:>10}{}"
    if not as_json:
        print_line(row.format("run", "top-1", "top-5", *["ReaL"] * with_real, "loss", "images", ""))
    results, failed = [], []
    for attempt in attempts:
        if attempt.result is None:
            failed.append(str(attempt.run))
            results.append({"run": str(attempt.run), "error": attempt.reason()})
            if attempt.error is not None and not hasattr(attempt.error, "exit_code"):
                traceback.print_exception(attempt.error)
            print_error(f"{attempt.run}: {attempt.reason()}")
            continue
        results.append(attempt.result.to_dict())
        _warn(attempt.result)
        if not as_json:
            name = str(attempt.run)
            name = name if len(name) <= width else f"…{name[1 - width :]}"
            print_line(row.format(name, *_cells(attempt.result, with_real)))
    if as_json:
        print_json(results)
    if failed:
        count = f"{len(failed)} of {len(runs)} runs"
        print_error(f"lambdanets eval: {count} could not be evaluated: {', '.join(failed)}")
    return 1 if failed else 0


def _cells(result: "RunEvaluation", with_real: bool) -> list[str]:
    evaluation = result.evaluation
    cells = [f"{evaluation.accuracy:.2%}", f"{evaluation.top5_accuracy:.2%}"]
    if with_real:
        cells.append("none" if evaluation.real_accuracy is None else f"{evaluation.real_accuracy:.2%}")
    left_out = f" ({evaluation.left_out} left out)" if evaluation.left_out else ""
    return [*cells, f"{evaluation.loss:.4f}", str(evaluation.total), left_out]
