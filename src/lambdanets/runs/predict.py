"""Prediction for image files, as one job."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambdanets.errors import PathError, complaint
from lambdanets.runs.load import load_run


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most likely classes of one file.

    Attributes:
        path: The file.
        top: Labels with their probabilities, most likely first.
        inverted: Whether dark and light were exchanged, so that the foreground is light.
    """

    path: Path
    top: tuple[tuple[str, float], ...]
    inverted: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {"image": str(self.path), "inverted": self.inverted, "top": top}


def predict(run: Path, images: Sequence[Path]) -> list[Prediction]:
    """Classify image files with the best network of a run.

    Args:
        run: A run folder.
        images: The files; each shows one object.

    Raises:
        PathError: There is no run, or a file does not exist.
        ArgumentError: The network's images do not come from files.
        DataError: A file cannot be read.
        CheckpointError: The weights are damaged.
    """
    missing = [path for path in images if not path.is_file()]
    if missing:
        raise PathError(
            f"predict: images must be files, got {', '.join(map(str, missing))}, which do not exist."
        )
    loaded = load_run(run)
    predictions = []
    with complaint("predict"):
        for path in images:
            pixels, inverted = loaded.read(path)
            predictions.append(Prediction(path=path, top=tuple(loaded.classify(pixels)), inverted=inverted))
    return predictions
