"""The records of a run for TensorBoard, beside metrics.jsonl."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lambdanets.dependencies import missing_library


class TensorBoardSink:
    """Writes each number of a record as a scalar over the steps: train/loss, test/accuracy, run/seconds.

    What the raw weights reach stands beside what the EMA does: test/raw_accuracy.

    Events are written behind the first record's step; what an earlier process wrote from there on is hidden
    from TensorBoard (`purge_step`), so a run that was continued or rolled back shows every step once. A disk
    that is full costs the events, never the run.

    Args:
        folder: Folder of the event files.
        history: Records that metrics.jsonl has already: they are written again, so that the curves are
            complete where an earlier process wrote no events.

    Raises:
        DependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, history: Iterable[Mapping[str, Any]] = ()) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise missing_library("TensorBoardSink", "tensorboard") from error
        self._make = SummaryWriter
        self._folder = folder
        self._writer: Any = None
        self._last = -1
        for record in history:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a record at its step, and wait until they are in the file."""
        step = int(record["step"])
        # After a rollback.
        if step <= self._last:
            self.close()
        self._last = step
        try:
            self._writer = self._writer or self._make(str(self._folder), purge_step=step)
            for name, value in record.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if name != "step" and is_number and math.isfinite(value):
                    self._writer.add_scalar(_tag(name), value, global_step=step)
            self._writer.flush()
        except OSError:
            # The next record tries a new file.
            self.close()

    def close(self) -> None:
        """Finish the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()


def _tag(name: str) -> str:
    """Give training and tests sections of their own."""
    section, _, rest = name.partition("_")
    if name.startswith("raw_test_"):
        return f"test/raw_{name.removeprefix('raw_test_')}"
    return f"{section}/{rest}" if section in ("train", "test") else f"run/{name}"
