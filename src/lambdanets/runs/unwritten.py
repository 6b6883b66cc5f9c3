"""What a run has to write and the disk has not taken: it is tried again, and every checkpoint has it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

from lambdanets.errors import CheckpointError, StorageError
from lambdanets.reading import UnreadableError, read_json
from lambdanets.training.checkpoint import Checkpoint, read_checkpoint
from lambdanets.training.run_folder import RunFolder
from lambdanets.training.run_names import checkpoint_name
from lambdanets.training.weights import load_weights, save_weights

# The name of the best weights among the tensors of a checkpoint, and of all this in its record.
_BEST = "best"
_RECORD = "unwritten"

_Weights = tuple[dict[str, Tensor], Mapping[str, Any]]


class Unwritten:
    """Lines of metrics.jsonl and best weights on their way to the disk."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines: list[dict[str, Any]] = []
        self._best: _Weights | None = None

    def add_line(self, record: dict[str, Any]) -> None:
        """Take a line of metrics.jsonl."""
        self._lines.append(record)

    def set_best(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Take the best weights so far, as they are now, in place of those before."""
        self._best = dict(tensors), description

    def write(self) -> None:
        """Write all that the disk takes.

        Raises:
            StorageError: It does not take everything; the rest is kept.
        """
        failures = []
        try:
            while self._lines:
                self._folder.append_metrics(self._lines[0])
                del self._lines[0]
        except StorageError as error:
            failures.append(error)
        try:
            if self._best:
                save_weights(self._folder.best, *self._best)
                self._best = None
        except StorageError as error:
            failures.append(error)
            self._keep_best()
        if failures:
            raise failures[0]

    def _keep_best(self) -> None:
        """Copy the best weights: those of the model itself change with its next step."""
        if self._best:
            tensors, description = self._best
            self._best = {name: one.detach().cpu().clone() for name, one in tensors.items()}, description

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What belongs to the tensors of a checkpoint."""
        return {_BEST: self._best[0]} if self._best else {}

    def record(self) -> dict[str, Any]:
        """What belongs to the record of a checkpoint."""
        return {_RECORD: {"metrics": self._lines, _BEST: self._best[1] if self._best else None}}

    def restore(self, checkpoint: Checkpoint | None, step: int) -> None:
        """Go back to what a checkpoint says: lines beyond its step are dropped, those it has are written.

        Raises:
            StorageError: The disk does not take the lines.
        """
        kept = checkpoint.record.get(_RECORD, {}) if checkpoint else {}
        self._lines, self._best = [], None
        self._folder.drop_metrics_after(step, kept.get("metrics", ()))
        if checkpoint and kept.get(_BEST):
            self._best = checkpoint.tensors[_BEST], kept[_BEST]

    def holds(self, best: Mapping[str, Any]) -> bool:
        """Whether the best weights are those of an entry `best` of the state: here, or in their files."""
        if self._best:
            return bool(self._best[1]["metric"] == best)
        found = self._written()
        if found is None or found[1].get("metric") != best:
            return False
        # A kill may have come between the two files.
        with suppress(UnreadableError):
            if read_json(self._folder.best.with_suffix(".json")) == found[1]:
                return True
        self._best = found
        return True

    def is_ahead(self, step: int) -> bool:
        """Whether the file of the best weights is of a later step: the run comes there again."""
        found = self._written()
        return found is not None and (found[1].get("metric") or {}).get("step", 0) > step

    def from_checkpoint(self, best: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """The best weights, from the checkpoint of their step; None where that is gone."""
        try:
            found = read_checkpoint(self._folder.checkpoints / checkpoint_name(best["step"]))
        except CheckpointError:
            return None
        # States of earlier versions had the EMA alone.
        return found.tensors["model" if best.get("weights") == "raw" else "ema"]

    def _written(self) -> _Weights | None:
        """The weights in best.safetensors with their description; None where they cannot be read."""
        with suppress(CheckpointError):
            tensors, description = load_weights(self._folder.best)
            return (tensors, description) if description else None
        return None
