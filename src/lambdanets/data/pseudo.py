"""Labels that a teacher gave, in a folder, and training on them beside labelled images."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import one_hot

from lambdanets.data.config import DataConfig, read_data_config
from lambdanets.data.seeds import Purpose, permutation
from lambdanets.data.task import Batch, Targets, TrainingData
from lambdanets.errors import ArgumentError, DataError, PathError
from lambdanets.reading import Number, UnreadableError, check_sum, opened, read_json, reading, sum_of_file
from lambdanets.tensor_files import load_tensors, open_tensors
from lambdanets.text import printable

# Written last: without it the labels are not complete.
MANIFEST: Final = "manifest.json"

# Which images were kept.
SELECTED: Final = "selected.safetensors"

_FIELDS: Final = {
    "settings": {"hard": bool, "shard_size": Number(int, 1), "seed": Number(int, 0), "data": {}},
    "labels?": [str],
    "num_classes": Number(int, 1),
    "num_images": Number(int, 0, 10**12),
    "files": {str: Number(int, 0)},
    "sums?": {str: str},
    "fingerprint?": {},
}

# Files are mapped into memory once for each process that reads them.
_open_file: Callable[[Path], Any] = lru_cache(maxsize=1024)(open_tensors)
_permutation = lru_cache(maxsize=2)(permutation)


def shard_name(number: int) -> str:
    """Name the file of one shard of predictions."""
    return f"predictions-{number:05d}.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoLabels:
    """The labels in a folder of `lambdanets pseudo label`.

    Attributes:
        path: The folder.
        settings: What was asked for, as `LabelConfig.to_dict` gives it.
        labels: The name of each class; None where the teacher knows only their number.
        num_images: Unlabelled images, kept or not.
        indices: Those that are kept, ascending; balanced classes may hold an image several times.
        has_sums: Whether the files were compared with their sums, which earlier versions did not write.
        images: The fingerprint of the images that were labelled; None in folders of earlier versions.
        digest: Sums of the manifest and of which images are kept.
    """

    path: Path
    settings: dict[str, Any]
    labels: tuple[str, ...] | None
    num_classes: int
    num_images: int
    indices: Int[Tensor, " m"]
    has_sums: bool
    images: Mapping[str, Any] | None = None
    digest: str = ""

    @classmethod
    def open(cls, path: Path) -> "PseudoLabels":
        """Open a folder, whose files must be complete and as they were written.

        Raises:
            PathError: It is no finished folder of labels.
            DataError: Something in it was changed.
        """
        if not os.path.lexists(path / MANIFEST):
            raise PathError(
                f"PseudoLabels: {path} must be a finished folder of `lambdanets pseudo label`, got no"
                f" {MANIFEST}. The same labelling command goes on where it was stopped."
            )
        with reading("PseudoLabels", path, "hold whole labels", hint="Label again."):
            manifest = read_json(path / MANIFEST, _FIELDS)
            check_sum(manifest)
            _check_files(path, manifest)
            tensors, _ = load_tensors(path / SELECTED)
            found = cls(
                path=path,
                settings=manifest["settings"],
                labels=None if manifest.get("labels") is None else tuple(map(printable, manifest["labels"])),
                num_classes=manifest["num_classes"],
                num_images=manifest["num_images"],
                indices=_checked_indices(tensors, manifest["num_images"]),
                has_sums=manifest.get("sums") is not None,
                images=manifest.get("fingerprint"),
                digest=f"{sum_of_file(path / MANIFEST)} {sum_of_file(path / SELECTED)}",
            )
            if found.labels is not None and len(set(found.labels)) != found.num_classes:
                raise UnreadableError(f"{len(set(found.labels))} names of {found.num_classes} classes")
        return found

    @property
    def data(self) -> DataConfig:
        """The data set whose images were labelled."""
        return read_data_config(self.settings["data"])

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def soft(self) -> bool:
        """Whether a label is a probability of every class, and not one class."""
        return not self.settings["hard"]

    def targets(self, entries: Int[Tensor, " b"]) -> Targets:
        """Read the labels of places in `indices`: probabilities of all images are more than memory holds."""
        column = "probabilities" if self.soft else "classes"
        rows = []
        for index in self.indices[entries].tolist():
            number, row = divmod(index, self.settings["shard_size"])
            rows.append(_open_file(self.path / shard_name(number)).get_slice(column)[row : row + 1])
        return torch.cat(rows)

    @cached_property
    def occurrences(self) -> Int[Tensor, " m"]:
        """How many times the same image came before, for each of `indices`."""
        return torch.arange(len(self)) - torch.searchsorted(self.indices, self.indices)


def _check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise unless the files of labels have the sizes and, where it has them, the sums of a manifest."""
    sizes, settings = manifest["files"], manifest["settings"]
    shards = range(-(-manifest["num_images"] // settings["shard_size"]))
    names = {SELECTED, *map(shard_name, shards)}
    if names != sizes.keys() or (manifest.get("sums") or sizes).keys() != names:
        raise UnreadableError(f"a {MANIFEST} that does not list the files of {manifest['num_images']} images")
    for name, size in sizes.items():
        with opened(path / name) as (_, status):
            found = status.st_size
        if found != size:
            raise DataError(
                f"PseudoLabels: {path / name} must have {size} bytes, as {MANIFEST} says, got {found}. Label"
                " again."
            )
    for name, expected in (manifest.get("sums") or {}).items():
        if sum_of_file(path / name) != expected:
            raise UnreadableError(f"a {name} that does not have the SHA-256 of {MANIFEST}")


def _checked_indices(tensors: Mapping[str, Tensor], num_images: int) -> Int[Tensor, " m"]:
    indices = tensors.get("indices")
    if indices is None or indices.dtype != torch.int64 or indices.ndim != 1:
        raise UnreadableError(f"no indices in {SELECTED}")
    if len(indices) and not (indices[0] >= 0 and indices[-1] < num_images and (indices.diff() >= 0).all()):
        raise UnreadableError(f"indices in {SELECTED} that are not ascending below {num_images}")
    return indices


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedTraining:
    """Training images of two kinds: pure functions of (seed, epoch, index), as both of its parts are.

    An epoch is one pass over the labelled images. Beside them stand `ratio` pseudo-labelled ones each: an
    index from `len(labelled)` on is the next of those, which pass in an order of their own that goes on
    through the epochs and is drawn anew for each pass. Both kinds are spread evenly over an epoch's order, so
    every piece of it has them at the ratio, to within one image.

    With soft labels all targets are probabilities of classes; with hard ones all are classes.

    Paper: none (ours); §E.2 trains on both together and does not state the ratio.

    Attributes:
        labelled: Images with their own labels.
        unlabelled: The images that were labelled, as training shows them; their own labels are not used.
        pseudo: The labels that a teacher gave them.
        ratio: Pseudo-labelled images to each labelled one.
    """

    labelled: TrainingData
    unlabelled: TrainingData
    pseudo: PseudoLabels
    ratio: float
    seed: int

    def __post_init__(self) -> None:
        if not len(self.pseudo):
            raise DataError(f"MixedTraining: pseudo must hold labels, got none kept in {self.pseudo.path}.")
        if len(self.unlabelled) != self.pseudo.num_images:
            raise DataError(
                f"MixedTraining: unlabelled must hold the {self.pseudo.num_images} images that"
                f" {self.pseudo.path} has labels for, got {len(self.unlabelled)}."
            )
        if not self.ratio > 0 or not self._num_pseudo:
            raise ArgumentError(
                "MixedTraining: ratio must put at least one pseudo-labelled image into an epoch of"
                f" {len(self.labelled)}, got {self.ratio}."
            )

    @property
    def _num_pseudo(self) -> int:
        """Pseudo-labelled images of one epoch."""
        return round(self.ratio * len(self.labelled))

    def __len__(self) -> int:
        return len(self.labelled) + self._num_pseudo

    def order(self, epoch: int) -> Int[Tensor, " n"]:
        """The order of an epoch: each index once, both kinds spread evenly."""
        # Of the first i + 1 images, ⌊(i + 1) p / n⌋ are pseudo-labelled: in any piece the fraction.
        pseudo_so_far = torch.arange(len(self) + 1) * self._num_pseudo // len(self)
        is_pseudo = pseudo_so_far.diff().bool()
        order = torch.empty(len(self), dtype=torch.int64)
        order[~is_pseudo] = self.labelled.order(epoch)
        order[is_pseudo] = torch.arange(len(self.labelled), len(self))
        return order

    def batch(self, epoch: int, indices: Int[Tensor, " b"]) -> Batch:
        """The images of these indices as this epoch shows them, and their labels."""
        is_pseudo = indices >= len(self.labelled)
        parts = []
        if not is_pseudo.all():
            own = self.labelled.batch(epoch, indices[~is_pseudo])
            if self.pseudo.soft and not own.targets.is_floating_point():
                own = own._replace(targets=one_hot(own.targets, self.pseudo.num_classes).float())
            parts.append((~is_pseudo, own))
        parts += self._pseudo_parts(epoch, indices, is_pseudo)
        first = parts[0][1]
        images = torch.empty(len(indices), *first.images.shape[1:], dtype=first.images.dtype)
        targets = torch.empty(len(indices), *first.targets.shape[1:], dtype=first.targets.dtype)
        for those, part in parts:
            images[those], targets[those] = part.images, part.targets
        return Batch(images, targets, tuple(sentence for _, part in parts for sentence in part.unreadable))

    def _pseudo_parts(
        self, epoch: int, indices: Int[Tensor, " b"], is_pseudo: Bool[Tensor, " b"]
    ) -> list[tuple[Bool[Tensor, " b"], Batch]]:
        """Pseudo-labelled images by the epoch that shows them, each with the places it takes in the batch."""
        # Each number of the endless sequence is (which pass, which place in its order).
        numbers = epoch * self._num_pseudo + indices - len(self.labelled)
        passes = numbers // len(self.pseudo)
        entries = torch.full_like(indices, -1)
        for number in passes[is_pseudo].unique().tolist():
            those = is_pseudo & (passes == number)
            order = _permutation(len(self.pseudo), Purpose.PSEUDO_ORDER, self.seed, number)
            entries[those] = order[numbers[those] % len(self.pseudo)]
        # An image that a pass holds several times looks different each time.
        times = self.pseudo.occurrences
        shown = passes * (int(times.max()) + 1) + times[entries]
        parts = []
        for number in shown[is_pseudo].unique().tolist():
            those = is_pseudo & (shown == number)
            images = self.unlabelled.batch(number, self.pseudo.indices[entries[those]])
            parts.append((those, images._replace(targets=self.pseudo.targets(entries[those]))))
        return parts
