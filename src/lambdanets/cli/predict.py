"""`lambdanets predict` and `explain`: classify image files; draw what a network looks at in one."""

import csv
import io
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal

from lambdanets.cli._options import Format, print_json, to_json
from lambdanets.files import make_folder, new_file
from lambdanets.ranges import Count, Range, Workers
from lambdanets.streams import print_error, print_line
from lambdanets.terminal import count, counting, fill
from lambdanets.text import printable, to_cell

if TYPE_CHECKING:
    from lambdanets.runs.predict import FilePrediction

_PredictFormat = Literal["text", "csv", "json", "jsonl"]
_ENDINGS: Final[dict[str, _PredictFormat]] = {".csv": "csv", ".json": "json", ".jsonl": "jsonl"}
_BAR: Final = 30
_Place = Annotated[int, Range(0, 8191)]
_WIDEST_LABEL: Final = 30


def predict(
    run: Path,
    images: tuple[str, ...],
    /,
    *,
    top: Count = 5,
    batch: Count = 64,
    num_workers: Workers = 0,
    weights: Literal["best", "ema", "raw"] = "best",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
    format: _PredictFormat = "text",
) -> int:
    """Classify image files by a trained run.

    Results come as batches are done. Files that cannot be read are named on the standard error, and the exit
    code is then 4; all others are classified.

    Args:
        run: A run folder, one of its checkpoints, or a file of weights.
        images: Image files, folders, quoted patterns such as 'photos/**/*.jpg', or - for paths on the
            standard input, one a line.
        top: How many classes of each image, at most.
        batch: Images at a time.
        num_workers: Processes that read images.
        weights: best: of the best epoch; ema or raw: the EMA or the network itself of the last checkpoint.
        device: Where the network runs.
        out: Write the results to this file; its ending .csv, .json or .jsonl decides about the format.
        format: text, csv, json (a list) or jsonl (an object a line); --json is short for --format json.
    """
    from lambdanets.data.left_out import LeftOut
    from lambdanets.runs.load import load_run
    from lambdanets.runs.predict import list_paths, predict_files
    from lambdanets.training.distributed import select_device

    left_out = LeftOut()
    paths = list_paths(images, left_out)
    if out is not None and format == "text":
        format = _ENDINGS.get(out.suffix.lower(), format)
    loaded = load_run(run, weights)
    for warning in loaded.origin.warnings:
        print_error(f"warning: {warning}")
    loaded.to(select_device("predict", device))
    batches = predict_files(loaded, paths, top=top, batch=batch, num_workers=num_workers)
    num_classes = top if loaded.labels is None else min(top, len(loaded.labels))
    unreadable: list[str] = []
    with ExitStack() as stack:
        file = stack.enter_context(_results_to(out, format))
        after_batch: list[Callable[[int], object]] = [lambda done: file.flush()]
        if len(paths) > batch and not file.isatty():
            after_batch.append(stack.enter_context(counting("images", len(paths))))
        _write(file, _one_by_one(batches, unreadable, after_batch), format, num_classes)
        file.flush()
    if unreadable:
        files = f"{len(unreadable):,} of {count(len(paths), 'file')}"
        print_error(f"lambdanets predict: {files} cannot be read")
    for note in left_out.notes(all=False):
        print_error(f"warning: {note}")
    return 4 if unreadable else 0


@contextmanager
def _results_to(out: Path | None, format: str) -> Iterator[IO[str]]:
    """Open the file of the results; names that are no UTF-8 stay the bytes that they are."""
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper) and format == "csv":
            sys.stdout.reconfigure(errors="surrogateescape")
        yield sys.stdout
        return
    make_folder(out.parent, "predict", "Use another --out.")
    interrupted = None
    with new_file(out, "predict", "Use another --out.") as content:
        file = io.TextIOWrapper(content, encoding="utf-8", errors="surrogateescape", newline="")
        try:
            yield file
        except KeyboardInterrupt as error:
            # What was found until then is kept.
            interrupted = error
        file.detach()
    if interrupted:
        raise interrupted


def _one_by_one(
    batches: Iterable[Sequence["FilePrediction"]],
    unreadable: list[str],
    after_batch: Sequence[Callable[[int], object]],
) -> Iterator["FilePrediction"]:
    """Pass the predictions of batches on, and name what cannot be read.

    Args:
        batches: The predictions.
        unreadable: Receives what is wrong with files that cannot be read.
        after_batch: Called with the number of files done, when all of a batch have been taken.
    """
    done = 0
    for found in batches:
        for one in found:
            if one.error is not None:
                unreadable.append(one.error)
                print_error(one.error)
            yield one
        done += len(found)
        for call in after_batch:
            call(done)


def _write(
    file: Any, predictions: Iterable["FilePrediction"], format: _PredictFormat, num_classes: int
) -> None:
    if format == "csv":
        _write_csv(file, predictions, num_classes)
    elif format == "json":
        _write_json(file, predictions)
    elif format == "jsonl":
        file.writelines(f"{to_json(one.to_dict(), indent=None)}\n" for one in predictions)
    else:
        for one in predictions:
            if one.error is None:
                flag = " (dark ink on light paper: inverted)" if one.inverted else ""
                file.write(_text(f"{printable(one.path)}{flag}", one.ranking, num_classes))


def _text(title: str, ranking: Sequence[tuple[str, float]], num_classes: int) -> str:
    if num_classes == 1:
        ((label, chance),) = ranking
        return f"{title}  {label}  {chance:.1%}\n"
    width = min(max(3, *(len(label) for label, _ in ranking)), _WIDEST_LABEL)
    bars = (f"  {label:<{width}}{chance:>7.1%}  {'█' * round(chance * _BAR)}" for label, chance in ranking)
    return "\n".join([title, *(bar.rstrip() for bar in bars)]) + "\n"


def _write_csv(file: Any, predictions: Iterable["FilePrediction"], num_classes: int) -> None:
    """A row for each image that can be read; the first class has no number in its columns' names."""
    writer = csv.writer(file, lineterminator="\n")
    numbers = ["", *(f"_{number}" for number in range(2, num_classes + 1))]
    writer.writerow(["path", *(f"{name}{number}" for number in numbers for name in ("label", "probability"))])
    for one in predictions:
        if one.error is None:
            cells = [one.path, *(cell for pair in one.ranking for cell in pair)]
            writer.writerow(map(to_cell, cells))


def _write_json(file: Any, predictions: Iterable["FilePrediction"]) -> None:
    """A list that grows, and is closed whatever ends it."""
    separator, end = "[\n", "[]\n"
    try:
        for one in predictions:
            file.write(separator + textwrap.indent(to_json(one.to_dict()), "  "))
            separator, end = ",\n", "\n]\n"
    finally:
        file.write(end)


def explain(
    source: str,
    image: Path,
    /,
    *,
    layer: str | None = None,
    position: tuple[_Place, _Place] | None = None,
    out: Path = Path("runs/explain"),
    size: Annotated[int, Range(1, 8192)] | None = None,
    weights: Path | None = None,
    format: Format = "text",
) -> None:
    """Draw what a lambda network looks at in an image.

    Args:
        source: A run folder, or a name of `lambdanets models`.
        image: An image file.
        layer: The lambda layer; the first, whose map is the finest, unless given.
        position: Row and column of a query on the layer's map, from 0; the middle unless given.
        out: The folder for the figures and explain.json.
        size: Shorter side of the image in pixels; as the network was made for unless given.
        weights: A safetensors file for a model; random weights unless given.
        format: text or json; --json is short for the latter.
    """
    from lambdanets.explain.explain import explain

    explanation = explain(source, image, out, layer=layer, position=position, size=size, weights=weights)
    for warning in explanation.warnings:
        print_error(f"warning: {warning}")
    if format == "json":
        print_json(explanation.to_dict())
        return
    print_line("\n".join(map(fill, explanation.title.splitlines())))
    for path, caption in explanation.figures.items():
        print_line(fill(f"{path}  {caption}"))
    layers = ", ".join(explanation.layers)
    print_line(fill(f"{explanation.numbers}  All that is drawn, as numbers. Layers: {layers}."))
