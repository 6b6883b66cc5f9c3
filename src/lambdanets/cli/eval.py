"""`lambdanets eval`: evaluate finished or running runs."""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lambdanets.cli.threads import keep_threads_asleep
from lambdanets.errors import check_positive
from lambdanets.training.torchrun import world_size

if TYPE_CHECKING:
    from lambdanets.runs.eval_table import Attempt
    from lambdanets.runs.evaluate import RunEvaluation
    from lambdanets.runs.load import Origin

# Names of unreadable images that a terminal lists.
_MOST_NAMED: Final = 10
_WIDEST_RUN: Final = 34


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="add a row of each run to this table")
    parser.add_argument(
        "--weights",
        choices=("best", "ema", "raw"),
        default="best",
        help="of the best epoch, or of the last checkpoint: its average or the network itself (best)",
    )
    parser.add_argument("--size", type=int, metavar="N", help="side of the test images (the run's)")
    parser.add_argument(
        "--real", type=Path, metavar="FILE", help="JSON with all labels that may be called right"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave unreadable images out, in the place of exit 4"
    )
    parser.add_argument("--batch", type=int, default=250, metavar="N", help="images at a time (250)")
    parser.add_argument(
        "--num-workers", type=int, default=0, metavar="W", help="processes that read images (0)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes that share the images (1)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto)")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(text)")
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="short for --format json"
    )


def main(arguments: argparse.Namespace) -> int:
    """Evaluate and print: a lone run ends with the exit code of its error, several with 1 after any."""
    check_positive("eval", processes=arguments.processes)
    if arguments.processes > 1 and world_size() == 1:
        from lambdanets.launch.processes import launch

        return launch(arguments.given, arguments.processes)
    keep_threads_asleep()
    from lambdanets.runs.eval_table import evaluate_runs
    from lambdanets.runs.evaluate import EvalSettings, evaluate_run
    from lambdanets.training.distributed import init_distributed
    from lambdanets.training.settings import ExecConfig

    settings = EvalSettings(
        weights=arguments.weights,
        size=arguments.size,
        real=arguments.real,
        skip_bad=arguments.skip_bad,
        batch=arguments.batch,
        num_workers=arguments.num_workers,
        device=arguments.device,
    )
    with init_distributed(ExecConfig(device=arguments.device)) as ctx:
        attempts = evaluate_runs(
            arguments.runs,
            settings,
            arguments.csv if ctx.is_main else None,
            evaluate_one=partial(evaluate_run, ctx=ctx),
        )
        if ctx.is_main:
            return _print(attempts, arguments)
        # The first process says what all have found.
        return max([0, *(1 for attempt in attempts if attempt.error)])


def _print(attempts: Iterator["Attempt"], arguments: argparse.Namespace) -> int:
    if len(arguments.runs) == 1:
        (attempt,) = attempts
        if attempt.result is None:
            raise attempt.error or AssertionError
        _print_one(attempt.result, arguments.format)
        return 0
    return _print_several(attempts, arguments)


def _print_one(result: "RunEvaluation", form: str) -> None:
    _warn(result)
    if form == "json":
        print(json.dumps(result.to_dict(), indent=2))
        return
    from lambdanets.runs.class_report import class_lines

    rows = {
        "weights": f"{Path(result.origin.source).relative_to(result.run)}, {_training(result.origin)}",
        "images": _images(result),
        **_scores(result),
        "loss": f"{result.evaluation.loss:.4f}",
        "speed": f"{result.images_per_s:,.0f} images/s on {result.device}",
    }
    print(f"{result.run}: {result.config.recipe}, {result.config.model.name}")
    for name, value in rows.items():
        print(f"{name:<10}{value}")
    for sentence in _unreadable(result.evaluation.unreadable):
        print(f"  {sentence}")
    print()
    for line in class_lines(result.per_class()):
        print(line)


def _training(origin: "Origin") -> str:
    network = "the network itself" if origin.weights == "raw" else "moving average"
    after = f"after epoch {origin.epoch}" if origin.epoch is not None else f"after step {origin.step}"
    chosen = ", chosen as the best on these images" if origin.weights == "best" else ""
    return f"{network} {after}{chosen}"


def _images(result: "RunEvaluation") -> str:
    evaluation = result.evaluation
    size = " of {}x{} pixels".format(*result.image_size) if result.image_size else ""
    if not evaluation.left_out:
        return f"{evaluation.total}{size}"
    whole = evaluation.total + evaluation.left_out
    return f"{evaluation.total} of {whole}{size}; {evaluation.left_out} cannot be read and are left out"


def _scores(result: "RunEvaluation") -> dict[str, str]:
    evaluation = result.evaluation
    rows = {"accuracy": f"{evaluation.accuracy:.2%}, {evaluation.correct} of {evaluation.total}"}
    if len(result.labels) > 5:
        rows["top-5"] = f"{evaluation.top5_accuracy:.2%}, {evaluation.top5_correct} of {evaluation.total}"
    if evaluation.real_total is not None:
        share = "none" if evaluation.real_accuracy is None else f"{evaluation.real_accuracy:.2%}"
        without = evaluation.total - evaluation.real_total
        rows["ReaL"] = (
            f"{share}, {evaluation.real_correct} of {evaluation.real_total}; {without} have no such label"
        )
    return rows


def _unreadable(sentences: Sequence[str]) -> Iterator[str]:
    yield from sentences[:_MOST_NAMED]
    if len(sentences) > _MOST_NAMED:
        yield f"and {len(sentences) - _MOST_NAMED} more"


def _warn(result: "RunEvaluation") -> None:
    for warning in result.origin.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _print_several(attempts: Iterator["Attempt"], arguments: argparse.Namespace) -> int:
    """One line for each run as soon as it is done, or one JSON list at the end."""
    as_json = arguments.format == "json"
    with_real = arguments.real is not None
    width = min(max(len(str(run)) for run in arguments.runs), _WIDEST_RUN)
    if not as_json:
        real = f"{'ReaL':>9}" if with_real else ""
        print(f"{'run':<{width}}{'top-1':>9}{'top-5':>9}{real}{'loss':>9}{'images':>10}", flush=True)
    found, failed = [], []
    for attempt in attempts:
        if attempt.result is None:
            failed.append(str(attempt.run))
            found.append({"run": str(attempt.run), "error": attempt.reason()})
            _print_error(attempt)
        else:
            found.append(attempt.result.to_dict())
            _warn(attempt.result)
            if not as_json:
                print(f"{_cut(attempt.run, width):<{width}}{_cells(attempt.result, with_real)}", flush=True)
    if as_json:
        print(json.dumps(found, indent=2))
    if failed:
        count = f"{len(failed)} of {len(arguments.runs)} runs"
        print(f"lambdanets eval: {count} could not be evaluated: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _cells(result: "RunEvaluation", with_real: bool) -> str:
    evaluation = result.evaluation
    share = evaluation.real_accuracy
    real = f"{share:>9.2%}" if share is not None else f"{'none':>9}"
    left_out = f" ({evaluation.left_out} left out)" if evaluation.left_out else ""
    return (
        f"{evaluation.accuracy:>9.2%}{evaluation.top5_accuracy:>9.2%}{real if with_real else ''}"
        f"{evaluation.loss:>9.4f}{evaluation.total:>10}{left_out}"
    )


def _cut(run: Path, width: int) -> str:
    text = str(run)
    return text if len(text) <= width else f"…{text[1 - width :]}"


def _print_error(attempt: "Attempt") -> None:
    if attempt.error is not None and not hasattr(attempt.error, "exit_code"):
        traceback.print_exception(attempt.error)
    print(f"{attempt.run}: {attempt.reason()}", file=sys.stderr)
