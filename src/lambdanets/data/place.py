"""Where a data set is, and how its parts are opened."""

from dataclasses import dataclass
from pathlib import Path

from lambdanets.data.folders import open_folder
from lambdanets.data.huggingface import HuggingFaceSource
from lambdanets.data.shards import ShardSource
from lambdanets.data.sources import Source
from lambdanets.errors import PathError


@dataclass(frozen=True, kw_only=True)
class DataPlace:
    """Where a data set is.

    Attributes:
        root: The folder that holds both parts, or the name of a Hugging Face data set.
        kind: folder, shards or huggingface; none: as the folder looks.
        train: A folder or a pattern of shards below root, or a split.
        test: The same; empty where there is none.
        train_labels: A label file for a flat folder, below root.
        test_labels: The same for the test.
    """

    root: str
    kind: str | None = None
    train: str = "train"
    test: str = "val"
    train_labels: str | None = None
    test_labels: str | None = None

    def known_kind(self) -> str:
        """The kind, guessed where it is not said.

        Raises:
            PathError: There is no such folder.
        """
        if self.kind is not None:
            return self.kind
        root = Path(self.root)
        if not root.is_dir():
            raise PathError(
                f"data: root must be a folder, got {self.root}, which is none."
                " A data set of Hugging Face needs --kind huggingface."
            )
        is_sharded = self.train.endswith(".tar") or any((root / self.train).glob("*.tar"))
        return "shards" if is_sharded else "folder"

    def open_train(self) -> Source:
        """The images to train with."""
        return self._open(self.train, self.train_labels, None)

    def open_test(self, labels: tuple[str, ...] | None = None) -> Source:
        """The images to test with.

        Args:
            labels: The classes of the training, where these must be the same.
        """
        return self._open(self.test, self.test_labels, labels)

    def _open(self, part: str, label_file: str | None, labels: tuple[str, ...] | None) -> Source:
        kind, root = self.known_kind(), Path(self.root)
        if kind == "huggingface":
            return HuggingFaceSource(self.root, part, labels)
        if kind == "shards":
            return ShardSource(root, part, labels)
        return open_folder(root / part, label_file=root / label_file if label_file else None, labels=labels)
