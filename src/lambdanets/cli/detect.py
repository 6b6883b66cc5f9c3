"""`lambdanets detect`: train, evaluate and compare detectors, and use them."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from lambdanets.cli._options import Argv, DetectRecipe, Format, print_json
from lambdanets.cli.train import DEFAULTS, Options
from lambdanets.ranges import Probability, Processes, Range, Rate, Seed, Workers
from lambdanets.streams import print_error, print_line
from lambdanets.terminal import count, pairs, table
from lambdanets.variables import starts_processes

if TYPE_CHECKING:
    from lambdanets.detection.bootstrap import Paired
    from lambdanets.detection.comparison import Comparison
    from lambdanets.detection.predict_files import PredictReport
    from lambdanets.runs.detect import LoadedDetector


def train(config: DetectRecipe, *, argv: Argv, options: Options = DEFAULTS, format: Format = "text") -> int:
    """Train a detector, or continue a run where it stopped.

    Args:
        config: All settings.
        argv: The arguments of the command.
        options: Folder, processes and files of the run.
        format: Of the result, or of --dry-run: text or json; --json is short for the latter.
    """
    return options.start(config, argv, format)


def eval(
    run: Path,
    /,
    *,
    argv: Argv,
    weights: Literal["best", "ema", "raw"] = "best",
    evaluator: Literal["faster-coco-eval", "pycocotools"] = "faster-coco-eval",
    root: Path | None = None,
    out: Path | None = None,
    num_workers: Workers = 0,
    processes: Processes = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    format: Format = "text",
) -> int:
    """Evaluate a detector on its test images: average precision, kinds of errors, a page.

    Args:
        run: A run folder.
        argv: The arguments of the command.
        weights: best: of the best epoch; ema or raw: the EMA or the network itself of the last checkpoint.
        evaluator: The library that scores; both give the same numbers.
        root: The folder of the images, where it is not that of the training.
        out: Folder for results.json, scores.json and detections.html; the run folder unless given.
        num_workers: Processes that read images.
        processes: Processes among which the images are divided.
        device: Where the network runs.
        format: text or json; --json is short for the latter.
    """
    if starts_processes("detect eval", processes if processes > 1 else 0):
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
            _warn(found.loaded)
            files = found.write(out or run)
            if format == "json":
                print_json(found.to_dict())
            else:
                print_line("\n".join([*found.lines(), pairs({"files": " · ".join(map(str, files))})]))
    return 0


def _warn(loaded: "LoadedDetector") -> None:
    for warning in loaded.origin.warnings:
        print_error(f"warning: {warning}")


def compare(
    a: Path,
    b: Path,
    /,
    *,
    annotations: Path | None = None,
    # A draw has a number for every image.
    resamples: Annotated[int, Range(1, 10**5)] = 1000,
    seed: Seed = 0,
    format: Format = "text",
) -> None:
    """Compare two detectors image by image, with intervals over images.

    Args:
        a: A run folder with results.json, or such a file.
        b: The other.
        annotations: COCO's JSON of the objects; that of the run folders unless given.
        resamples: How often images are drawn with replacement.
        seed: Another one draws others.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.detection.comparison import compare_runs

    found = compare_runs(a, b, annotations=annotations, num_resamples=resamples, seed=seed)
    if format == "json":
        print_json(found.to_dict())
    else:
        print_line("\n".join(_comparison(found)))


def predict(
    run: Path,
    images: tuple[str, ...],
    /,
    *,
    out: Path,
    score: Probability = 0.5,
    tile: Annotated[int, Range(1, 8192)] | None = None,
    overlap: Rate = 0.2,
    weights: Literal["best", "ema", "raw"] = "best",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    format: Format = "text",
) -> int:
    """Find objects in images of any size: draw them, and write them as COCO results.

    An image that cannot be read is named and left out; the exit code is then 4.

    Args:
        run: A run folder.
        images: Image files, folders and patterns such as 'photos/*.jpg'.
        out: Folder for results.json, images.json and drawings/.
        score: Least score of an object.
        tile: Look at tiles of so many pixels too, for small objects in large images.
        overlap: Fraction of a tile that its neighbour has too.
        weights: best: of the best epoch; ema or raw: the EMA or the network itself of the last checkpoint.
        device: Where the network runs.
        format: text or json; --json is short for it.
    """
    from lambdanets.data.left_out import LeftOut
    from lambdanets.data.listing import find_images
    from lambdanets.detection.predict import Tiling
    from lambdanets.detection.predict_files import predict_files
    from lambdanets.runs.detect import load_detector
    from lambdanets.training.distributed import select_device

    tiling = None if tile is None else Tiling(side=tile, overlap=overlap)
    target = select_device("detect predict", device)
    left_out = LeftOut()
    paths = find_images(images, "detect predict", out=out, left_out=left_out)
    for note in left_out.notes(all=False):
        print_error(f"warning: {note}")
    loaded = load_detector(run, weights)
    _warn(loaded)
    report = predict_files(
        loaded.model.to(target),
        paths,
        out,
        categories=loaded.categories,
        config=loaded.config.data,
        min_score=score,
        tiling=tiling,
        device=target,
    )
    if format == "json":
        print_json({**asdict(report), "results": str(report.results)})
    else:
        print_line("\n".join(_predicted(report)))
    return 4 if report.unreadable else 0


def _comparison(found: "Comparison") -> Iterator[str]:
    yield f"A  {found.runs[0]}\nB  {found.runs[1]}"
    yield (
        f"{count(found.num_images, 'image')} of {found.annotations}; intervals of 95 % over"
        f" {found.num_resamples:,} draws of as many images\n"
    )
    headings = ("", "A", "B", "A - B", "interval", "A better")
    yield table(headings, [_score(name, score) for name, score in found.scores.items()])
    yield ""
    kinds = ("box", "mask") if "mask_ap" in found.scores else ("box",)
    yield table(
        ("objects of", "number", *(f"{kind} AP {run}" for kind in kinds for run in "AB")),
        [
            (
                f"{a.low:g} to {a.high:g} px",
                f"{a.num_objects:,}",
                *(_number(getattr(one, f"{kind}_ap")) for kind in kinds for one in (a, b)),
            )
            for a, b in zip(*found.sizes, strict=True)
        ],
    )
    yield ""
    yield table(
        ("errors of boxes", "A", "B", "cost in AP50 A", "B"),
        [
            (
                error,
                *(f"{one.counts[error]:,}" for one in found.errors),
                *(_number(one.costs[error]) for one in found.errors),
            )
            for error in found.errors[0].counts
        ],
    )


def _score(name: str, score: "Paired") -> tuple[str, ...]:
    kind, _, rest = name.partition("_ap")
    difference = score.difference
    interval = "none"
    if difference.low is not None and difference.high is not None:
        interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return (
        f"{kind} AP{rest.replace('_', ' ')}",
        _number(score.a.value),
        _number(score.b.value),
        "none" if difference.value is None else f"{difference.value:+.4f}",
        interval,
        "none" if score.a_better is None else f"{score.a_better:.1%}",
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def _predicted(report: "PredictReport") -> Iterator[str]:
    rows = {
        image.file_name: ", ".join(f"{num} {name}" for name, num in image.counts.items()) or "nothing"
        for image in report.images
    }
    if rows:
        yield pairs(rows)
    yield from (f"unreadable: {reason}" for reason in report.unreadable)
    folder = report.results.parent
    yield f"{report.results} · {folder / 'images.json'} · {folder / 'drawings'}"
