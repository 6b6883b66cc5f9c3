"""Labels that a teacher gave, in a folder: which images are kept, and what stands for each."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lambdanets.data.config import DataConfig, read_data_config
from lambdanets.errors import DataError, PathError

# Written last: without it the labels are not complete.
MANIFEST: Final = "manifest.json"

# Which images were kept.
SELECTED: Final = "selected.safetensors"

Targets = Int[Tensor, " b"] | Float[Tensor, "b num_classes"]


def shard_name(number: int) -> str:
    """The file of one shard of predictions."""
    return f"predictions-{number:05d}.safetensors"


def select(
    classes: Int[Tensor, " n"],
    confidences: Float[Tensor, " n"],
    *,
    min_confidence: float,
    num_each: int | None,
) -> Int[Tensor, " m"]:
    """Choose the images to learn from: those the teacher is sure of, as many of each class.

    Of each class the surest are kept. A class that has fewer is filled up with its own images again, the
    surest first; one that has none stays empty.

    Paper: none (ours); filter and balance are Noisy Student's, which the paper follows.

    Args:
        classes: What the teacher takes each image for.
        confidences: The share it gives that class.
        min_confidence: Least confidence of an image that is kept.
        num_each: Images of each class; None: as many as are sure.

    Returns:
        Indices of images, ascending, some of them repeatedly.
    """
    (kept,) = torch.nonzero(confidences >= min_confidence, as_tuple=True)
    if num_each is None:
        return kept
    chosen = []
    for label in classes[kept].unique():
        those = kept[classes[kept] == label]
        surest = those[confidences[those].argsort(descending=True, stable=True)]
        chosen.append(surest[torch.arange(num_each) % len(surest)])
    return torch.cat(chosen).sort().values if chosen else kept


def occurrences(indices: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """How many times the same index came before, for ascending indices."""
    return torch.arange(len(indices)) - torch.searchsorted(indices, indices)


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoLabels:
    """The labels in a folder of `lambdanets pseudo label`.

    Attributes:
        path: The folder.
        settings: What was asked for: teacher, data, filter.
        labels: The name of each class; None where the teacher knows only their number.
        num_classes: How many there are.
        num_images: Unlabelled images, kept or not.
        indices: Those that are kept, ascending; balanced classes may hold an image several times.
    """

    path: Path
    settings: dict[str, Any]
    labels: tuple[str, ...] | None
    num_classes: int
    num_images: int
    indices: Int[Tensor, " m"]

    @classmethod
    def open(cls, path: Path) -> "PseudoLabels":
        """Open a folder.

        Raises:
            PathError: There are no labels, or they are not complete.
            DataError: A file is damaged.
        """
        if not (path / MANIFEST).is_file():
            raise PathError(
                f"PseudoLabels: {path} must be a finished folder of `lambdanets pseudo label`, got no"
                f" {MANIFEST}. The same labelling command goes on where it was stopped."
            )
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            for name, size in manifest["files"].items():
                if (path / name).stat().st_size != size:
                    raise DataError(
                        f"PseudoLabels: {path / name} must have {size} bytes, as {MANIFEST} says, got"
                        f" {(path / name).stat().st_size}. Label again."
                    )
            labels = manifest["labels"]
            return cls(
                path=path,
                settings=manifest["settings"],
                labels=labels and tuple(labels),
                num_classes=manifest["num_classes"],
                num_images=manifest["num_images"],
                indices=load_file(path / SELECTED)["indices"],
            )
        except (OSError, KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
            raise DataError(
                f"PseudoLabels: {path} must hold whole labels, got '{error}'. Label again."
            ) from error

    @property
    def data(self) -> DataConfig:
        """The data set whose images were labelled."""
        return read_data_config(self.settings["data"])

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def soft(self) -> bool:
        """Whether a label is a share of every class, and not one class."""
        return not self.settings["hard"]

    def targets(self, entries: Int[Tensor, " b"]) -> Targets:
        """The labels of kept images.

        They are read where they are needed: a share of each class of many images is more than memory holds.

        Args:
            entries: Places in `indices`.
        """
        column = "probabilities" if self.soft else "classes"
        return torch.cat([self._row(column, index) for index in self.indices[entries].tolist()])

    def _row(self, column: str, index: int) -> Tensor:
        number, row = divmod(index, self.settings["shard_size"])
        return _opened(str(self.path / shard_name(number))).get_slice(column)[row : row + 1]


@lru_cache(maxsize=1024)
def _opened(path: str) -> Any:
    """A file, mapped into memory, once for each process that reads it."""
    return safe_open(path, framework="pt")
