"""Prediction for image files, as one job."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from lambdanets.data.preprocessing import Preprocessing
from lambdanets.errors import PathError, complaint
from lambdanets.runs.load import LoadedModel, load_run, require_preprocessing

TOP: Final = 5


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a network takes one file for.

    Attributes:
        path: The file.
        top: Labels with their probabilities, most likely first.
        inverted: Whether dark and light were exchanged, so that ink is light.
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
        ArgumentError: The network's data set has no images from outside.
        DataError: A file cannot be read.
        CheckpointError: The weights are damaged.
    """
    missing = [path for path in images if not path.is_file()]
    if missing:
        raise PathError(
            f"predict: images must be files, got {', '.join(map(str, missing))}, which do not exist."
        )
    loaded = load_run(run)
    with complaint("predict"):
        preprocessing = require_preprocessing(loaded)
    return [_predict_one(loaded, preprocessing, path) for path in images]


@torch.inference_mode()
def _predict_one(loaded: LoadedModel, preprocessing: Preprocessing, path: Path) -> Prediction:
    image, inverted = preprocessing.read(path)
    probabilities = loaded.model(image.unsqueeze(0)).softmax(dim=1)[0]
    labels = loaded.labels or tuple(map(str, range(len(probabilities))))
    values, indices = probabilities.topk(min(TOP, len(labels)))
    top = tuple(
        (labels[index], value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)
    )
    return Prediction(path=path, top=top, inverted=inverted)
