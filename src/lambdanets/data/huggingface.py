"""Images of a Hugging Face data set, as bytes: decoding is not left to it."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lambdanets.data.sources import read_file
from lambdanets.dependencies import missing_library
from lambdanets.errors import DataError
from lambdanets.text import printable


class HuggingFaceSource:
    """Encoded images of one split of a data set that the library `datasets` loads.

    The column of images is the only one of its kind, or `image`; that of classes the only one, or `label`.
    Bytes come as they are stored, because the column is read without its decoder.

    Args:
        root: What `datasets.load_dataset` takes: the name of a data set on the Hub, or a folder.
        split: One of its splits: `train`, `validation`, `train[:90%]`.
        labels: The names of the classes, where another split has decided them.

    Raises:
        DependencyError: `datasets` is not installed.
        DataError: There is no such data set or split, or it has no images or no classes.

    Attributes:
        labels: The name of each class.
        targets: The class of each image, " n", int64.
    """

    labels: tuple[str, ...]
    targets: Int[Tensor, " n"]

    def __init__(self, root: str, split: str, labels: tuple[str, ...] | None = None) -> None:
        datasets = _datasets()
        self._where = f"{root} {split}"
        dataset = _load(datasets, root, split)
        images = _column(dataset, datasets.Image, "image", self._where)
        classes = _column(dataset, datasets.ClassLabel, "label", self._where)
        self.labels = tuple(map(printable, dataset.features[classes].names))
        if labels not in (None, self.labels):
            raise DataError(
                f"huggingface: {self._where} must have the classes of the training, got {len(self.labels)}"
                f" others in column {classes!r}."
            )
        self.targets = torch.tensor(dataset[classes][:], dtype=torch.int64)
        if not len(self.targets) or int(self.targets.min()) < 0:
            first = int((self.targets < 0).int().argmax()) if len(self.targets) else 0
            raise DataError(
                f"huggingface: {self._where} must give each image a class, got none at row {first}."
            )
        self._images = dataset.select_columns([images]).cast_column(images, datasets.Image(decode=False))
        self._column = images

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """The name of an image, for messages: `imagenet-1k train: row 42`."""
        return f"{self._where}: row {range(len(self))[index]}"

    def relative_name(self, index: int) -> bytes:
        """The row of an image: rows have no other name."""
        return b"%d" % index

    def read(self, index: int) -> bytes:
        """The encoded bytes of an image.

        Raises:
            DataError: The row has none, or they cannot be read.
        """
        try:
            stored = self._images[int(index)][self._column] or {}
        # What a damaged table is to the library beneath differs from version to version.
        except (OSError, ValueError) as error:
            raise DataError(f"{self.name(index)}: cannot be read: {printable(str(error))}.") from error
        if stored.get("bytes") is not None:
            return bytes(stored["bytes"])
        if stored.get("path") is None:
            raise DataError(f"{self.name(index)}: must have an image, got none.")
        return read_file(str(stored["path"]).encode("utf-8", "surrogateescape"), self.name(index))


def _datasets() -> Any:
    try:
        return import_module("datasets")
    except ModuleNotFoundError as error:
        if error.name != "datasets":
            raise
        raise missing_library("huggingface", "datasets") from error


def _load(datasets: Any, root: str, split: str) -> Any:
    try:
        return datasets.load_dataset(str(Path(root)) if Path(root).is_dir() else root, split=split)
    # No such set or file, no network, no such split or configuration: each has its own message.
    except (OSError, ValueError) as error:
        reason = printable(str(error).strip().partition("\n")[0]).removesuffix(".")
        raise DataError(f"huggingface: {root} must have a split {split!r}, got '{reason}'.") from error


def _column(dataset: Any, kind: type, usual: str, where: str) -> str:
    """The column of a kind."""
    names = [name for name, feature in dataset.features.items() if isinstance(feature, kind)]
    if usual not in names and len(names) != 1:
        raise DataError(
            f"huggingface: {where} must have one column of kind {kind.__name__}, or {usual!r} among them, got"
            f" {', '.join(names) or 'none'} of {', '.join(dataset.features)}."
        )
    return usual if usual in names else names[0]
