"""Which images a run is evaluated on, where they are not those of its training; without torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lambdanets.data.config import DATA_SETS, DataConfig, FilesConfig, FolderConfig, HuggingFaceConfig
from lambdanets.data.layout import folders_in, tests_among
from lambdanets.errors import ArgumentError, PathError
from lambdanets.files import absolute, from_home
from lambdanets.ranges import Rate, check_settings


@dataclass(frozen=True, kw_only=True)
class OtherData:
    """Other images than those the run was judged by in training. Classes are matched by their names.

    Attributes:
        name: Their kind; that of the run unless given.
        root: The folder, or the name of a Hugging Face data set. Without a part named val, valid, validation,
            test or testing all of its class folders are evaluated.
        test: The part: a folder or a pattern of shards below root, or a split.
        test_labels: A label file (CSV or JSON) for a flat folder, below root.
        holdout: Evaluate the images that a training with this holdout sets aside, of the run's training part.
    """

    name: Literal["folder", "shards", "huggingface"] | None = None
    root: str | None = None
    test: str | None = None
    test_labels: str | None = None
    holdout: Rate | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def is_given(self) -> bool:
        """Whether there are other images at all."""
        return self != OtherData()

    def settings(self, run: Path, data: DataConfig) -> FilesConfig:
        """The settings of these images for a run.

        Args:
            run: The run folder, for messages.
            data: The settings of its own images, which hold where nothing else is said.

        Raises:
            ArgumentError: Nobody has said where the images are, or settings do not fit together.
            PathError: There is no such folder.
        """
        own = data if isinstance(data, FilesConfig) else None
        root = self.root or (own.root if own else "")
        if not root:
            raise ArgumentError(
                f"eval: data.root must be given for {run}, whose own images are not from files, got none."
                " Use --data.root DIR."
            )
        name = self.name or (own.name if own else "folder")
        kind = DATA_SETS[name]
        base = own if type(own) is kind else None
        is_hub = kind is HuggingFaceConfig and not from_home(root).is_dir()
        root = root if is_hub else absolute(root)
        if not is_hub and not Path(root).is_dir():
            raise PathError(f"eval: data.root must be a folder, got {root}, which is none.")
        settings = base or kind(name=name)
        assert isinstance(settings, FilesConfig), "the kinds that are given by name are files"
        is_own = base is not None and base.root == root
        if is_own and (self.test, self.test_labels, self.holdout) == (None, None, None):
            return settings
        changed: dict[str, Any] = {"root": root, "root_given": self.root, "holdout": self.holdout or 0.0}
        if not self.holdout:
            changed["test"] = self.test or self._part(Path(root), base)
        if isinstance(settings, FolderConfig):
            own_labels = settings.test_labels if is_own and self.test is None and not self.holdout else None
            changed["test_labels"] = self.test_labels or own_labels
        elif self.test_labels:
            raise ArgumentError(f"eval: data.test_labels must be left out for {kind.__name__}, got one.")
        return replace(settings, **changed)

    def _part(self, root: Path, base: FilesConfig | None) -> str:
        """The part to evaluate, where none is named."""
        own = [base.test] if base and not base.holdout else []
        if isinstance(base, HuggingFaceConfig) or self.name == "huggingface":
            return own[0] if own else "validation"
        if self.test_labels:
            # A label file names images of the whole folder.
            return "."
        own = [part for part in own if any(root.glob(part))]
        return [*own, *tests_among(folders_in(root)), "."][0]


def check_there(run: Path, data: DataConfig) -> None:
    """Raise where the images of a run are no longer in their place, with the option that names another."""
    if not isinstance(data, FilesConfig) or not data.root or Path(data.root).exists():
        return
    if isinstance(data, HuggingFaceConfig) and not Path(data.root).is_absolute():
        return
    seen_from = "" if Path(data.root).is_absolute() else f" (seen from {Path.cwd()})"
    again = f"--data.root DIR --data.holdout {data.holdout:g}" if data.holdout else "--data.root DIR"
    raise PathError(
        f"eval: the images of {run} must be in {data.root}{seen_from}, got no such folder. If they moved,"
        f" say where they are: {again}"
    )


def describe_place(data: DataConfig) -> str:
    """Say where the evaluated images of a data set are."""
    if not isinstance(data, FilesConfig):
        return data.name
    if data.holdout:
        return f"{_joined(data, data.train)}, {data.holdout:.0%} set aside"
    return _joined(data, data.test)


def _joined(data: FilesConfig, part: str) -> str:
    return f"{data.root} {part}" if isinstance(data, HuggingFaceConfig) else str(Path(data.root) / part)
