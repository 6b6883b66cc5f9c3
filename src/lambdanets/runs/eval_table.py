"""Several runs evaluated one after another, and the CSV file that keeps a row of each."""

import csv
import fcntl
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdanets.errors import ArgumentError
from lambdanets.files import replace_file, storing
from lambdanets.reading import read_text, reading
from lambdanets.runs.evaluate import EvalSettings, RunEvaluation, evaluate_run
from lambdanets.runs.origin import commit, now, versions
from lambdanets.text import to_cell
from lambdanets.training.distributed import DistributedContext
from lambdanets.waiting import wait_until

_COLUMNS: Final = (
    *("run", "recipe", "model", "weights", "epoch", "step", "image_height", "image_width"),
    *("top1", "correct", "top5", "top5_correct", "real", "real_correct", "real_total", "loss"),
    *("total", "left_out", "images_per_s", "device", "torch", "commit", "date", "error"),
    *("data", "test_name"),
)
# Seconds to wait for the other writers of a table, and between two attempts.
_LOCK_S: Final = 60.0
_PAUSE_S: Final = 0.05
# Tables of earlier versions have these columns, and get the others with their next row.
_OLD_COLUMNS: Final = _COLUMNS[:-2]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of a list, with its evaluation or the error that was raised instead.

    Attributes:
        run: The run folder.
        result: The evaluation.
        error: The error.
    """

    run: Path
    result: RunEvaluation | None = None
    error: Exception | None = None

    def reason(self) -> str:
        """The error in one line."""
        text = " ".join(str(self.error).split())
        return text if hasattr(self.error, "exit_code") else f"{type(self.error).__name__}: {text}"


def evaluate_runs(
    runs: Sequence[Path],
    settings: EvalSettings,
    table: Path | None = None,
    *,
    ctx: DistributedContext | None = None,
) -> Iterator[Attempt]:
    """Evaluate runs one after another; an error in one does not keep the others from their turn.

    Args:
        runs: Run folders.
        settings: The same for all of them.
        table: A CSV file that gets a row as soon as a run is done or has failed.
        ctx: This process among others, of which the first writes the table.

    Raises:
        ArgumentError: The CSV file is another table.
        StorageError: It cannot be written.
    """
    if ctx is not None and not ctx.is_main:
        table = None
    if table is not None:
        _check_table(table)
    for run in runs:
        try:
            attempt = Attempt(run=run, result=evaluate_run(run, settings, ctx=ctx))
        # Any: a long list must not end at a run that nobody thought of.
        except Exception as error:
            attempt = Attempt(run=run, error=error)
        if table is not None:
            _append_row(table, _row_of(attempt, settings))
        yield attempt


def _row_of(attempt: Attempt, settings: EvalSettings) -> dict[str, object]:
    """One row of the CSV file: numbers with their origin, or the error."""
    row: dict[str, object] = {
        "run": attempt.run,
        "weights": settings.weights,
        "torch": versions()["torch"],
        "commit": commit(),
        "date": now(),
    }
    if attempt.result is None:
        return row | {"error": attempt.reason()}
    found = attempt.result.to_dict()
    height, width = found["image_size"] or (None, None)
    return (
        {name: found[name] for name in _COLUMNS if name in found}
        | row
        | {
            "image_height": height,
            "image_width": width,
            "top1": found["accuracy"],
            "top5": found["top5_accuracy"],
            "real": found["real_accuracy"],
            "images_per_s": round(found["images_per_s"], 1),
        }
    )


def _check_table(path: Path) -> None:
    """Raise unless a file is a table of this command, or there is no file yet."""
    header = next(csv.reader(io.StringIO(_content(path), newline="")), None)
    if header is not None and tuple(header) not in (_COLUMNS, _OLD_COLUMNS):
        raise ArgumentError(
            f"eval: csv must be a table of `lambdanets eval` or a new file, got {path} with the columns"
            f" {', '.join(header)[:60]}."
        )


def _append_row(path: Path, row: dict[str, object]) -> None:
    """Add a row, with the header before the first; the file is whole at any time, also with several writers.

    Raises:
        StorageError: It cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    with storing(path, "eval", "Use another file for --csv."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            old = _content(path)
            if old.partition("\n")[0] == ",".join(_OLD_COLUMNS):
                writer.writeheader()
                writer.writerows(csv.DictReader(io.StringIO(old, newline="")))
                old = ""
            elif not old:
                writer.writeheader()
            writer.writerow({name: to_cell(value) for name, value in row.items()})
            ending = "\n" if old and not old.endswith("\n") else ""
            content = f"{old}{ending}{text.getvalue()}".encode("utf-8", "surrogateescape")
            replace_file(path, content, "eval", "Use another file for --csv.")


def _content(path: Path) -> str:
    if not os.path.lexists(path):
        return ""
    with reading("eval", f"csv {path}", "be a table of `lambdanets eval` or a new file", ArgumentError):
        return read_text(path, errors="surrogateescape")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers of this command away from a folder, where the system has such locks.

    Raises:
        OSError: Another process has held the lock for a minute.
    """
    descriptor = os.open(folder, os.O_RDONLY)

    def is_taken(seconds: float) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(min(seconds, _PAUSE_S))
            return False
        except OSError:
            # The system has no such locks.
            pass
        return True

    try:
        held = f"the folder was locked by another process for {_LOCK_S:g} s"
        wait_until(is_taken, _LOCK_S, lambda: OSError(held))
        yield
    finally:
        os.close(descriptor)
